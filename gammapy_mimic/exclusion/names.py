"""Positions of sources by their names."""

import re
from difflib import get_close_matches

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.coordinates.name_resolve import NameResolveError

from ..utils.angles import to_angle
from .catalogs import CATALOGS, MissingCatalogError, open_catalog, read_position

__all__ = ["find_position", "is_name"]

NAME_COLUMNS = (
    *("common_name", "Source_Name", "source_name", "Identified_Object"),
    *("gamma_names", "fermi_names", "other_names", "tevcat_name", "tgevcat_name"),
)
"""Columns of the catalogues of Gammapy with one name, or several with commas between.
"""

N_NEAR = 5  # names that an error offers


def find_position(name):
    """Find the position of a source by its name.

    In the catalogues of Gammapy that are in ``$GAMMAPY_DATA``, and if it is in none of
    them, by the name resolver of astropy, which needs a network.

    Parameters
    ----------
    name : str
        Name. Case and blanks do not matter.

    Returns
    -------
    position : `~astropy.coordinates.SkyCoord`
        Position (ICRS).

    Raises
    ------
    ValueError
        If nothing knows the name, with near ones of the catalogues.
    """
    searched, names = [], []
    for tag in CATALOGS:
        try:
            table = open_catalog(tag)
        except MissingCatalogError:
            continue
        searched.append(tag)
        named = list(_read_names(table))
        names += [text for _, text in named]
        row = next((row for row, _ in named if _normalise(_) == _normalise(name)), None)
        if row is not None:
            lon, lat = read_position(table[[row]], tag)
            return SkyCoord(lon[0], lat[0], unit="deg")
    try:
        return SkyCoord.from_name(name).icrs
    except NameResolveError as error:
        where = ", ".join(searched) or "$GAMMAPY_DATA, which has no catalogue"
        near = ", ".join(map(repr, _find_near(name, names)))
        way_out = f"There are near names: {near}. Give one, or" if near else "Give"
        raise ValueError(
            f"There is no source {name!r} in {where}, and no name resolver that knows "
            f"it can be reached. {way_out} RA,DEC."
        ) from error


def is_name(text):
    """Whether a text can be the name of a source, and is no angle.

    Parameters
    ----------
    text : str
        Text.

    Returns
    -------
    is_name : bool
        Whether it can be one.
    """
    try:
        to_angle(text, unit="deg")
    except ValueError:
        return any(_.isalpha() for _ in text)
    return False


def _normalise(name):
    """Name without what is spelt in different ways."""
    return re.sub(r"[\s_]", "", str(name)).lower()


def _read_names(table):
    """Rows of a catalogue, and each of their names."""
    for column in [_ for _ in NAME_COLUMNS if _ in table.colnames]:
        texts = np.ma.asarray(table[column]).astype(str).filled("")
        for row, text in enumerate(texts.tolist()):
            yield from ((row, _.strip()) for _ in text.split(","))


def _find_near(name, names):
    """Find the names of which a text is a part, and those that look like it."""
    names = list(dict.fromkeys(names))
    longer = [_ for _ in names if _normalise(name) in _normalise(_)]
    return list(dict.fromkeys([*longer, *get_close_matches(name, names)]))[:N_NEAR]

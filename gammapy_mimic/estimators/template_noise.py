"""Noise of a prediction that is made of a template, as the meta tables tell it."""

import itertools

import numpy as np

from ..data.template_irfs import NEFF, NEFF_ENERGIES
from .measurement import get_bands

__all__ = ["measure_template_noise"]

COLUMNS = {NEFF, "BKG_OBS_IDS"}


def measure_template_noise(sets, energy_edges):
    r"""Measure the relative variance of predictions by the counts of their templates.

    Templates tell the effective counts of their bins, by energy, see
    `~gammapy_mimic.data.template_irfs.make_template_columns`. Templates of one set have
    the correlation :math:`|A \cap B| / \sqrt{|A| |B|}` for their OFF observations A
    and B. Approximations: an aperture is one bin, and bins of energy are independent.

    Parameters
    ----------
    sets : list of `~gammapy.datasets.Datasets`
        Datasets of each set, with their meta tables.
    energy_edges : `~astropy.units.Quantity`
        Edges of the bands of energy.

    Returns
    -------
    variances : `~numpy.ndarray` or None
        Relative variance of the prediction of a set, in the mean of the sets. Shape
        (n_bands,). None if a dataset does not tell what its template is.
    """
    bands = get_bands(energy_edges)
    templates = [[_read_templates(_) for _ in datasets] for datasets in sets]
    if any(_ is None for _ in itertools.chain(*templates)):
        return None
    variances = np.zeros((len(templates), len(bands)))
    for idx, rows in enumerate(templates):
        members, spectra, relative = zip(*itertools.chain(*rows), strict=True)
        shared = [
            len(a & b) / np.sqrt(len(a) * len(b))
            for a, b in itertools.product(members, repeat=2)
        ]
        spectrum = np.sum(spectra, axis=0)
        noise = np.mean(shared) * np.mean(relative, axis=0)
        for number, (_, low, high) in enumerate(bands):
            inside = low.to_value("TeV") <= NEFF_ENERGIES
            inside &= high.to_value("TeV") > NEFF_ENERGIES
            part = spectrum * inside
            if part.any():
                share = part / part.sum()
                variances[idx, number] = np.sum(share**2 * noise)
    return variances.mean(axis=0)


def _read_templates(dataset):
    """Read the OFF observations, spectrum and relative variances of each template.

    Stacked datasets have one for each observation, side by side. None without a
    template that tells them.
    """
    table = dataset.meta_table
    if table is None or not {*table.colnames} >= COLUMNS:
        return None
    counts = np.ma.filled(np.ma.asarray(table[NEFF], dtype=float), np.nan)
    counts = np.reshape(counts, (-1, len(NEFF_ENERGIES)))
    if np.isnan(counts).any():
        return None
    members = [{*str(_).split(",")} for _ in np.ravel(table["BKG_OBS_IDS"])]
    relative = np.divide(1, counts, out=np.zeros_like(counts), where=counts > 0)
    edges = dataset.counts.geom.axes["energy"].edges.to_value("TeV")
    prediction = np.nan_to_num(dataset.npred_background().data).sum(axis=(1, 2))
    # bins of energy are split in equal parts
    idx = np.searchsorted(edges, NEFF_ENERGIES) - 1
    inside = (idx >= 0) & (idx < len(prediction))
    number = np.maximum(np.bincount(idx[inside], minlength=len(prediction)), 1)
    spectrum = np.zeros(len(NEFF_ENERGIES))
    spectrum[inside] = (prediction / number)[idx[inside]]
    spectrum /= len(members)
    return [(one, spectrum, row) for one, row in zip(members, relative, strict=True)]

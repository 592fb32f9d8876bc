"""Random numbers that depend on what is made, not on the order in which it is made."""

import zlib

import numpy as np

__all__ = ["draw_halves", "random_generator"]


def random_generator(random_state, tag, obs_id, mimic_set=0):
    """Random generator of one observation.

    Parameters
    ----------
    random_state : int
        Seed chosen by the user, not negative.
    tag : str
        What the numbers are for, as a rule the tag of the maker.
    obs_id : int
        Observation ID.
    mimic_set : int, optional
        Mimic set. Default is 0.

    Returns
    -------
    generator : `~numpy.random.Generator`
        Independent generator for every combination of the arguments.
    """
    # hash() of a text would differ from process to process
    entropy = [random_state, zlib.crc32(tag.encode()), obs_id, mimic_set]
    return np.random.default_rng(np.random.SeedSequence([int(_) for _ in entropy]))


def draw_halves(obs_id, n_events):
    """Draw the half that each event of an observation is in.

    Each by itself, so that the counts of both halves are independent Poisson numbers.
    Halves of the same observation are always the same ones.

    Parameters
    ----------
    obs_id : int
        Observation ID.
    n_events : int
        Number of rows of its event list.

    Returns
    -------
    halves : `~numpy.ndarray` of int
        0 or 1. Shape (n_events,).
    """
    return random_generator(0, "halves", obs_id).integers(0, 2, n_events)

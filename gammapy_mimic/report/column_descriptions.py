"""What the columns of the tables are."""

__all__ = ["COLUMN_DESCRIPTIONS", "describe_columns"]

_RESULT = {
    "band": "band of energy, by number, or all energies",
    "e_min": "lower edge of the band of energy",
    "e_max": "upper edge",
    "mean": "mean of the significances; expected_mean for noise alone",
    "mean_err": "its error, from the scatter of the sets, not below that of counts",
    "width": "standard deviation of the significances; 1 for noise alone",
    "width_err": "its error, from the scatter of the sets, not below that of counts",
    "minimum": "smallest significance",
    "maximum": "largest significance",
    "n_above_3": "number of positions above 3 sigma; 0.135% for noise alone",
    "n_below_3": "number of positions below -3 sigma",
    "n_background": "mean effective background counts of a position",
    "n_positions": "number of pixels, which overlap, or of spectra",
    "n_independent": "their area over that of the correlation circle, or their number",
    "offset_band": "band of offset, by number, or all offsets",
    "offset_min": "lower edge of the band of offset, none for all offsets",
    "offset_max": "upper edge",
    "delta": "bias: counts over prediction minus 1",
    "delta_err": "its error, by counts and by the scatter of OFF observations",
    "f": "spread between positions, as a fraction of the background",
    "f_lo": "lower end of its interval, 68% confidence",
    "f_hi": "upper end",
    "f_ul": "its upper limit, 95% confidence",
    "total": "root of delta² + f² (1 + delta)²",
    "total_lo": "lower end of its interval, 68% confidence",
    "total_hi": "upper end",
    "total_ul": "its upper limit, 95% confidence",
    "f_squared": "square of f as it is estimated, which can be negative",
    "f_squared_err": "its error",
    "f_other_ul": "upper limit of f for another field, 95% confidence",
    "total_other_ul": "the same for the total",
    "norm_share": "part of the counts that the prediction follows, by a norm that was "
    "fitted or by rings",
    "template_err": "noise of the prediction by the counts of its template, not in f",
    "n_runs": "effective number of OFF observations; none for stacked datasets",
    "n_apertures": "effective number of independent circles",
    "n_counts": "counts of all sets",
    "reason": "why something is not measured",
    "expected_mean": "mean of a background without systematic error",
    "radius": "radius of the circles",
    "distance_band": "bin of the distance",
    "distance_min": "smallest difference of the conditions, OFF observation and target",
    "distance_max": "largest one",
    "distance": "mean",
    "n_pairs": "number of pairs",
    "target_time": "good time of the target",
    "off_time": "good time of the OFF observations; what sets share counts once",
    "n_off": "number of OFF observations",
    "region": "region, by its label or number",
    "counts": "mean counts of a mimic set",
    "background": "its mean prediction",
    "target_counts": "counts of the target",
    "target_background": "its prediction",
    "target_flux": "flux of the target's excess, if the source is all in the region",
    "target_flux_err": "its statistical error",
    "spurious_flux": "flux of the bias: by so much that of the target is wrong",
    "spurious_flux_err": "its error",
    "significance": "significance of the target",
    "mimic_mean": "mean of background alone, as mimics show it",
    "mimic_width": "its standard deviation, for the counts of the target",
    "mimic_std": "standard deviation of the mimic sets",
    "n_larger": "number k of mimic values that are as large",
    "n_sample": "number of mimic values, in which each event counts once",
    "n_places": "number of places of the offset of the position, in each set",
    "n_sets": "number of mimic sets",
    "n_effective": "effective number of OFF observations, or of stacked sets: degrees "
    "of freedom and 1",
    "calibrated": "significance of the target, given the errors of the background",
    "calibrated_p_value": "its one-sided p-value",
    "background_factor": "background over its prediction that would leave 3 sigma",
    "p_value": "(1 + k) / (1 + n), for k of n mimic values that are as large",
    "text": "the same in words",
    "flux": "integral flux",
    "flux_err": "its statistical error",
    "flux_ul": "its upper limit, 95% confidence",
    "sqrt_ts": "significance",
}

_SIGNIFICANCE = {
    **_RESULT,
    "name": (
        "mimic set, all of them, or the target outside of its excluded sources, grown "
        "by the correlation radius"
    ),
    "mean_err": "its statistical error, with the correlation of pixels",
    "background_ratio": "background counts over those of the target, at its positions",
    "expected_mean": "mean of a background without systematic error",
    "width_err": "its statistical error, with the correlation of pixels",
}

_MAXIMUM = {
    **_RESULT,
    "significance": "largest significance of the target",
    "mimic_mean": "mean of the largest ones of mimic sets",
    "mimic_std": "their standard deviation",
    "mimic_max": "the largest of them",
    "n_sets": "number of mimic sets with a position that has enough background",
    "random_mean": "mean of the largest ones of random maps of the background",
    "n_larger": "number k of random maps whose largest one is as large",
    "n_maps": "number of random maps, no more than are needed",
    "p_value": "(1 + k) / (1 + n), for k of n random maps that are as large",
    "n_above": "mean number of positions above 2 sigma in mimic sets",
    "n_above_expected": "the same in random maps",
    "n_above_p_value": "probability of a difference as large, if mimics are like them",
    "has_spread": "whether random maps have mean error and spread of the mimics, or "
    "noise alone",
    "text": "the p-value in words",
}

_PLAN = {
    "OBS_ID": "target observation",
    "OBJECT": "object of the target observation",
    "MIMIC_SET": "mimic set",
    "OFF_OBS_ID": "OFF observation that stands in for it, none without a partner",
    "KL_CORR": "Kullback-Leibler divergence of the backgrounds in energy and offset, "
    "without what noise adds on average: 0 if they are alike",
    "P_VALUE": "probability of a divergence as large, if they are alike; none for "
    "pairs that were chosen by it (ranking: kl)",
    "DELTA_RMS": "rms of the relative difference of the backgrounds",
    "LIVETIME_RATIO": "livetime of the whole OFF observation over that of the target",
    "RATE_RATIO": "rate of events outside all sources, OFF over target",
    "DELTA_ZENITH": "zenith angle, OFF minus target",
    "DISTANCE": "difference of the conditions, in units of their limits or scatter",
    "ENERGY_MIN": "higher threshold of the two, from which the target is tested",
    "CUT_START": "begin of the part used, in good time of the OFF observation; none: "
    "it is used whole",
    "CUT_STOP": "its end",
    "STATUS": "ok: no difference is seen; differs: p-value below 5%, as 5% of pairs "
    "have that are alike; undecided: too few events to tell; large_kl: they differ by "
    "too much, the nearest there is, left out; no_mimic: no partner",
}

_PLAN_SUMMARY = {
    "N_SETS": "number of mimic sets",
    "TARGET_LIVETIME": "livetime of the targets that have a partner",
    "OFF_LIVETIME": "livetime of the OFF observations; what sets share counts once",
    "LIVETIME_RATIO": "OFF over target",
    "MAX_REUSE": "largest number of sets that an OFF observation is in",
    "MEAN_REUSE": "mean number",
    "N_EFFECTIVE": "number of independent sets that they are worth",
    "MAX_SHARED": "largest part of their livetime that two sets share",
}

_SETS = {
    "name": "mimic set, or the target",
    "n_datasets": "number of observations, 1 if they are stacked",
    "time": "good time",
    "e_min": "lowest energy with data, in any observation",
    "e_min_all": "lowest energy from which all observations have data",
    "e_max": "highest energy with data",
    "background_ratio": "background counts over those of the target, at its positions",
    "rate_ratio": "rate of events outside all sources, OFF over target: mean of pairs",
}

_REGIONS = {
    "radius": "of a circle that holds the region",
    "origin": "catalogue or file",
}

_TEMPLATES = {
    "name": "targets, or mimic set",
    "n_templates": "number of templates",
    "n_missing": "number of targets or mimics that are left out, as too few OFF "
    "observations are left for a template",
    "n_min": "smallest number of OFF observations in a template",
    "n_mean": "mean number",
    "n_max": "largest number",
    "livetime": "mean livetime of a template",
}

_LOSSES = {
    "name": "mimic set, or the target",
    "obs_id": "target observation, none for what set and target do not share",
    "counts": "counts without a prediction of the background, or not shared",
    "fraction": "their part of the counts in the safe mask; 1: all is masked",
    "bins": "energies, or part of the bins, that they are from",
    "cause": "what has no prediction there, or masks all; mimics: counts of the target "
    "where no mimic of the set has a prediction, or an event of that energy; target: "
    "the reverse, counts of the set",
}

_FLUX = {**_RESULT, "name": "mimic set, or the target"}
_SPURIOUS_FLUX = {
    **_RESULT,
    "mean": "mean flux of the sets",
    "mean_err": "its error, from the scatter of sets, not below that of counts",
    "mean_ul": "its upper limit, 95% confidence",
    "std": "standard deviation of the sets, as if they shared no events",
    "target_flux": "flux of the target",
    "target_flux_err": "its statistical error",
    "spread": "the same without the statistical errors",
    "statistical_err": "statistical error of a flux, root mean square",
    "sys_errn": "systematic error of a flux of the target, to lower flux: mean, if "
    "above 0, its error and spread in quadrature",
    "sys_errp": "the same to higher flux, with a mean below 0",
    "sys_ul": "flux of the target that may be none, 95% confidence",
    "flux_ul": "mean upper limit of a set, 95% confidence",
}
_NORMALISATION = {
    "parameter": "parameter of the FoV background model",
    "n": "number of values of all sets",
    "n_runs": "number of different OFF observations; what sets share counts once",
    "mean": "mean of the parameter; 1 for a perfect norm",
    "mean_err": "its error, from the scatter of the OFF observations",
    "spread": "scatter of the parameter beyond its statistical error",
    "spread_err": "its error, half of the interval",
    "spread_lo": "lower end of its interval, 68% confidence",
    "spread_hi": "upper end",
    "spread_ul": "its upper limit, 95% confidence",
    "other_err": "half of the interval around the mean that holds the true value of "
    "another observation with 68% probability; the width of a prior",
}

_COVARIANCE = {name: _RESULT[name] for name in ("band", "e_min", "e_max", "delta")} | {
    "energy": "mean energy of the background in the band",
    "delta_err": "its error",
    "spread": "standard deviation of the errors of targets, without that of counts",
    "error": "the same for one more target, around the measured bias",
    "template_err": "noise of the target's prediction by the counts of its template: "
    "in the error, not in the spread",
    "dof": "degrees of freedom that the spread is known from",
}

COLUMN_DESCRIPTIONS = {
    "covariance": _COVARIANCE,
    "flux": _FLUX,
    "losses": _LOSSES,
    "maximum": _MAXIMUM,
    "normalisation": _NORMALISATION,
    "plan": _PLAN,
    "plan_summary": _PLAN_SUMMARY,
    "exclusion_regions": _REGIONS,
    "sets": _SETS,
    "significance": _SIGNIFICANCE,
    "spurious_flux": _SPURIOUS_FLUX,
    "templates": _TEMPLATES,
}
COLUMN_DESCRIPTIONS |= dict.fromkeys(
    ("distance", "position", "regions", "scales", "systematics", "time"), _RESULT
)
"""Description of each column, by table (dict of dict of str)."""

_SPECTRA = {
    "f": "spread between observations, as a fraction of the background",
    "f_other_ul": "upper limit of f for another target, 95% confidence",
    "n_apertures": "effective number of independent observations of targets",
    "n_positions": "number of observations",
    "n_independent": "the same",
    "n_above_3": "number of observations above 3 sigma; 0.135% for noise alone",
    "n_below_3": "number of observations below -3 sigma",
    "n_background": "mean effective background counts",
    "background_ratio": "background counts over those of the target",
}
"""What is other for spectra."""


def describe_columns(name, has_maps=True):
    """Describe the columns of a table.

    Parameters
    ----------
    name : str
        Name of the table.
    has_maps : bool, optional
        Whether it is one of maps, or of spectra. Default is True.

    Returns
    -------
    descriptions : dict of str
        Descriptions, empty for a table that is not known.
    """
    descriptions = dict(COLUMN_DESCRIPTIONS.get(name, {}))
    if not has_maps:
        descriptions |= {_: _SPECTRA[_] for _ in _SPECTRA.keys() & descriptions.keys()}
        if name == "significance":
            errors = dict.fromkeys(("mean_err", "width_err"), "its statistical error")
            descriptions |= {"name": _SETS["name"], **errors}
    return descriptions

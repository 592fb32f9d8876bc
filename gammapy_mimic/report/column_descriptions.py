"""What the columns of the tables are."""

__all__ = ["COLUMN_DESCRIPTIONS"]

_RESULT = {
    "band": "band of energy, by number, or all energies",
    "e_min": "lower edge of the band of energy",
    "e_max": "upper edge",
    "mean": "mean of the significances; 0 for noise alone",
    "mean_err": "its error, from the scatter of the sets",
    "width": "standard deviation of the significances; 1 for noise alone",
    "width_err": "its error, from the scatter of the sets",
    "minimum": "smallest significance",
    "maximum": "largest significance",
    "above_3": "fraction of positions above 3 sigma; 0.00135 for noise alone",
    "above_3_err": "its error, from the scatter of the sets",
    "below_3": "fraction of positions below -3 sigma",
    "below_3_err": "its error, from the scatter of the sets",
    "n_above_3": "number of positions above 3 sigma; 0.135% for noise alone",
    "n_below_3": "number of positions below -3 sigma",
    "n_background": "mean effective background counts of a position",
    "n_positions": "number of pixels, which overlap, or of spectra",
    "n_independent": "their area over that of the correlation circle, or their number",
    "offset_band": "band of offset, by number, or all offsets",
    "offset_min": "lower edge of the band of offset, none for all offsets",
    "offset_max": "upper edge",
    "f": "fractional systematic error of the background",
    "f_err": "its error, none where f is 0",
    "f_ul": "its upper limit, 95% confidence",
    "is_measured": "whether f is above 0 with 95% confidence",
    "f_squared": "square of f as it is estimated, which can be negative",
    "f_squared_err": "its error, from the scatter of the sets",
    "significance": "significance of the target",
    "mimic_mean": "mean of the mimics",
    "mimic_width": "standard deviation of the mimics",
    "mimic_std": "standard deviation of the mimic sets",
    "n_larger": "number k of mimic values that are as large",
    "n_sample": "number of positions of mimics at this offset, without common events",
    "n_sets": "number of mimic sets",
    "calibrated": "significance minus mean, over the width of the mimics",
    "calibrated_err": "its error, from those of mean and width",
    "p_value": "(1 + k) / (1 + n), for k of n mimic values that are as large",
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

_FLUX = {**_RESULT, "name": "mimic set"}
_SPURIOUS_FLUX = {
    **_RESULT,
    "mean": "mean flux of the sets",
    "mean_ul": "its upper limit, 95% confidence",
    "std": "standard deviation of the sets",
    "statistical_err": "mean statistical error of a flux",
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

COLUMN_DESCRIPTIONS = {
    "flux": _FLUX,
    "losses": _LOSSES,
    "normalisation": _NORMALISATION,
    "plan": _PLAN,
    "plan_summary": _PLAN_SUMMARY,
    "regions": _REGIONS,
    "significance": _SIGNIFICANCE,
    "spurious_flux": _SPURIOUS_FLUX,
    "templates": _TEMPLATES,
}
COLUMN_DESCRIPTIONS |= dict.fromkeys(("maximum", "position", "systematics"), _RESULT)
"""Description of each column, by table (dict of dict of str)."""

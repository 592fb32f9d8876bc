"""What a result is made of, and the flux of the target, in short sentences."""

import numpy as np

from ..estimators.tables import TARGET, get_name
from ..visualization.common import format_band

__all__ = ["describe_flux", "get_rate_ratios", "make_facts", "make_sets_table"]


def make_facts(result, plan=None):
    """List what a result is made of.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    plan : `~gammapy_mimic.selection.MimicPlan`, optional
        Plan. Default is not known.

    Returns
    -------
    facts : dict of str
        Texts by what they are about: target, mimic sets, independent OFF hours, tested
        energies, rate of the background. What is not known is left out.
    """
    time, sets = result.tables["time"][0], make_sets_table(result, plan)
    summary = None if plan is None else plan.make_summary()
    target_time, off_time = time["target_time"], time["off_time"]
    if summary is not None and np.isnan(off_time):
        # stacked datasets do not tell
        off_time = summary.off_livetime / 3600
    is_target = sets["name"] == TARGET
    mimics, facts = sets[~is_target], {}
    if is_target.any():
        n_targets, what = sets["n_datasets"][is_target][0], "datasets"
        if plan is not None:
            n_targets, what = len(set(plan.table["OBS_ID"])), "observations"
        facts["Target"] = ", ".join(
            filter(None, [_count(n_targets, what), _format_hours(target_time)])
        )
    text = str(len(mimics))
    if summary is not None and np.isfinite(summary.n_effective):
        text += f", worth {summary.n_effective:.1f} independent ones"
    facts["Mimic sets"] = text
    if np.isfinite(off_time):
        text = f"{off_time:.1f} h, what sets share counted once"
        if time["n_off"]:
            text += f"; {_count(time['n_off'], 'observations')}"
        if off_time > 0 and target_time > 0:
            text += f"; {off_time / target_time:.1f} times the target"
        facts["Independent OFF time"] = text
    energies = [_format_energies(_) for _ in (sets[is_target], mimics)]
    if any(energies):
        names = "target", "mimic sets"
        texts = [f"{_[0]} {_[1]}" for _ in zip(names, energies, strict=True) if _[1]]
        if len(set(energies)) == 1:
            texts = [f"target and mimic sets {energies[0]}"]
        facts["Energies with data"] = "; ".join(texts)
    ratios = {"counts": mimics["background_ratio"]}
    if "rate_ratio" in sets.colnames:
        ratios["rate of events"] = mimics["rate_ratio"]
    texts = [
        f"{_format_range(values, '.0%')} of the target's {what}"
        for what, values in ratios.items()
        if np.isfinite(values).any()
    ]
    if texts:
        facts["Background of the mimic sets"] = "; ".join(texts)
    return facts


def _count(number, what):
    return f"{number} {what if number != 1 else what.removesuffix('s')}"


def _format_hours(hours):
    return f"{hours:.1f} h" if np.isfinite(hours) else ""


def _format_energies(rows):
    """Energies of all rows, and from where on they are in all datasets."""
    low, high, common = (
        rows[_].quantity.to_value("TeV") for _ in ("e_min", "e_max", "e_min_all")
    )
    if not np.isfinite(low).any():
        return ""
    text = f"{np.nanmin(low):.3g} to {np.nanmax(high):.3g} TeV"
    latest = np.nanmax(common) if np.isfinite(common).all() else np.nan
    if latest > np.nanmin(low):
        text += f", in all observations from {latest:.3g} TeV"
    return text


def _format_range(values, spec):
    """Smallest and largest value, once if they are the same text."""
    texts = (format(_(values), spec) for _ in (np.nanmin, np.nanmax))
    return " to ".join(dict.fromkeys(texts))


def make_sets_table(result, plan=None):
    """Make the table of what each mimic set is.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    plan : `~gammapy_mimic.selection.MimicPlan`, optional
        Plan. Default is not known.

    Returns
    -------
    table : `~astropy.table.Table`
        Table "sets" of the result, with the mean ``rate_ratio`` of the pairs of each
        set, if there is a plan.
    """
    table = result.tables["sets"].copy()
    if plan is not None:
        ratios = get_rate_ratios(plan)
        table["rate_ratio"] = [float(ratios.get(_, np.nan)) for _ in table["name"]]
        table["rate_ratio"].info.format = ".4g"
    return table


def get_rate_ratios(plan):
    """Get the rate of the events of OFF observations over that of targets.

    Parameters
    ----------
    plan : `~gammapy_mimic.selection.MimicPlan`
        Plan.

    Returns
    -------
    ratios : dict of float
        Mean of the pairs of each set, by its name. Without sets of which it is not
        known.
    """
    table = plan.table[np.isfinite(plan.table["RATE_RATIO"])]
    values = {_: table["RATE_RATIO"][table["MIMIC_SET"] == _] for _ in plan.sets}
    return {get_name(_): np.mean(value) for _, value in values.items() if len(value)}


def describe_flux(result):
    """Say what flux the target has, and what of it may be one of the background.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.

    Returns
    -------
    text : str
        Sentences about all energies, "" without a flux of target and mimics.
    """
    if "spurious_flux" not in result.tables:
        return ""
    row = result.select("spurious_flux")[0]
    flux = row["target_flux"]
    if not (row["target_flux_err"] > 0 and np.isfinite(row["mean"])):
        return ""
    # one exponent for all numbers that are compared, and digits for the smallest error
    errors = [row[_] for _ in ("target_flux_err", "statistical_err", "std")]
    errors = [_ for _ in errors if _ > 0]
    exponent = _find_exponent(max(abs(flux), *errors))
    digits = np.clip(1 + exponent - _find_exponent(min(errors)), 2, 4)

    def write(value):
        return f"{value / 10.0**exponent:z.{digits}f}e{exponent:+03d}"

    text = (
        f"The target has a flux of {write(flux)} ± {write(row['target_flux_err'])} "
        f"cm-2 s-1 between {format_band(row).replace(' to ', ' and ')} (statistical "
        "error)."
    )
    if np.isfinite(row["sys_errn"]):
        text += (
            f" The background makes a systematic error of -{write(row['sys_errn'])} "
            f"and +{write(row['sys_errp'])}."
        )
    text += f" Mimic sets, where there is no source, have {write(row['mean'])}"
    if np.isfinite(row["std"]):
        text += f" ± {write(row['std'])} (mean and standard deviation)"
    if flux > 0:
        text += f": the mean is {row['mean'] / flux:z.1%} of the flux of the target"
    return f"{text}."


def _find_exponent(value):
    return int(np.floor(np.log10(value)))

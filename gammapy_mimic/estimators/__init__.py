"""What mimic sets say about the background of a target."""

from importlib import import_module

MODULES = {
    "Band": "measurement",
    "BandMaps": "maps",
    "BiasMap": "bias",
    "CorrectedDataset": "bias",
    "Excess": "verdict",
    "Judgement": "verdict",
    "MimicSystematics": "result",
    "MimicSystematicsEstimator": "systematics",
    "Verdict": "verdict",
    "average_flux": "flux",
    "make_bias_map": "bias",
    "make_prior": "normalisation",
    "measure_flux": "flux",
    "measure_normalisation": "normalisation",
    "stack_datasets": "stacking",
}
"""Modules of what is public."""

__all__ = list(MODULES)


def __getattr__(name):
    # a run that has nothing to do needs none of it
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{MODULES[name]}", __name__), name)

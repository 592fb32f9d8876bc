"""Hashes of what the results of an analysis depend on."""

import functools

import numpy as np
from gammapy import __version__ as gammapy_version
from gammapy.utils.scripts import make_path

from ..data.obs_ids import to_obs_ids
from ..exclusion.sky_regions import regions_to_text
from ..utils.files import make_checksum
from ..version import __version__

__all__ = ["StepChecksums", "hash_files"]


class StepChecksums:
    """Hashes for the records of one run, in which neither files nor the plan change.

    They are of effects, not of words: of the regions that catalogues give, of files as
    they are, of the partners and their parts in the plan. So another text with the same
    effect makes no step run again.

    Parameters
    ----------
    analysis : `~gammapy_mimic.analysis.MimicAnalysis`
        Analysis with its observations.
    """

    def __init__(self, analysis):
        self._analysis = analysis
        self._config = analysis.config
        self._obs_ids = analysis.observations.ids
        self._mimics = {}

    @functools.cached_property
    def plan(self):
        """Hash of what the plan depends on (str)."""
        config, regions = self._config.mimic, self._analysis.exclusion_regions
        return make_checksum(
            self._observations,
            self._off,
            regions.names,
            regions.origins,
            config.n_sets,
            config.random_state,
            config.selection.randomise,
            config.selection.n_best,
            config.livetime,
        )

    def get_mimic(self, plan, mimic_set):
        """Get the hash of the mimic observations of a set.

        Parameters
        ----------
        plan : `~gammapy_mimic.selection.MimicPlan`
            Plan.
        mimic_set : int
            Mimic set.

        Returns
        -------
        checksum : str
            Hash.
        """
        # several steps need it, and it looks at all files
        if mimic_set in self._mimics:
            return self._mimics[mimic_set]
        config, datastore = self._config.mimic, self._analysis.factory.off_datastore
        partners = plan.partners(mimic_set)
        scramble = config.scramble and (
            config.scramble.model_dump_json(),
            config.random_state,
            self._regions,
        )
        self._mimics[mimic_set] = make_checksum(
            self._observations,
            partners,
            plan.cuts(mimic_set),
            plan.seed,
            _stamp_datastore(datastore, list(partners.values())),
            config.alignment,
            config.time,
            config.background,
            config.irfs,
            self._get_template(plan) if config.background == "template" else None,
            scramble,
        )
        return self._mimics[mimic_set]

    def get_datasets(self, plan=None, mimic_set=None):
        """Get the hash of the datasets of the targets, or of a mimic set.

        Parameters
        ----------
        plan : `~gammapy_mimic.selection.MimicPlan`, optional
            Plan. Default is None, for an analysis without mimics.
        mimic_set : int, optional
            Mimic set. Default is None, for the targets.

        Returns
        -------
        checksum : str
            Hash.
        """
        mimic, fields = self._config.mimic, None
        if mimic_set is not None:
            trusted = plan.partners(mimic_set, questionable=False)
            observations = make_checksum(self.get_mimic(plan, mimic_set), [*trusted])
        elif mimic is not None and mimic.background == "template":
            templates = self._get_template(plan)
            observations = make_checksum(self._observations, templates)
        else:
            observations = make_checksum(self._observations, None)
        if self._analysis.finds_geometry:
            fields = [_.obs_id for _ in self._analysis.factory.find_fields(plan)]
        excludes = mimic is not None and mimic.exclusion.background
        return make_checksum(
            observations,
            gammapy_version,
            self._config.datasets.model_dump_json(),
            _stamp(self._config.datasets.background.exclusion),
            self._regions if excludes else None,
            fields,
        )

    def get_systematics(self, plan):
        """Get the hash of the systematic error that is estimated.

        Parameters
        ----------
        plan : `~gammapy_mimic.selection.MimicPlan`
            Plan.

        Returns
        -------
        checksum : str
            Hash.
        """
        from ..estimators.result_fits import RESULT_VERSION

        return make_checksum(
            self.get_datasets(plan),
            [self.get_datasets(plan, mimic_set) for mimic_set in plan.sets],
            self._config.mimic.systematics.model_dump_json(),
            regions_to_text(self._analysis.factory.systematics_regions),
            self._analysis.factory.systematics_nights,
            self._regions,
            RESULT_VERSION,
        )

    @functools.cached_property
    def _observations(self):
        """Hash of the target observations as they are on disk."""
        return make_checksum(
            self._obs_ids,
            self._config.observations.obs_time.model_dump_json(),
            _stamp_datastore(self._analysis.datastore, self._obs_ids),
            __version__,
        )

    @functools.cached_property
    def _off(self):
        """Hash of the OFF observations, and of how they are compared."""
        datastore = self._analysis.factory.off_datastore
        table = datastore.obs_table
        exclude = {"randomise", "n_best"}
        return make_checksum(
            self._config.mimic.selection.model_dump_json(exclude=exclude),
            self._regions,
            # the index of the store has the conditions that are matched
            [(name, table[name].tolist()) for name in table.colnames],
            _stamp_datastore(datastore, datastore.obs_ids),
        )

    def get_templates(self, plan):
        """Get the hash of what the templates of targets and mimics are made of.

        Parameters
        ----------
        plan : `~gammapy_mimic.selection.MimicPlan`
            Plan.

        Returns
        -------
        checksum : str
            Hash.
        """
        return make_checksum(self._observations, self._get_template(plan))

    def _get_template(self, plan):
        """Get the hash of what all templates depend on: one of a mimic on all sets."""
        template = self._config.mimic.template.model_dump_json()
        pairs = [
            (mimic_set, plan.partners(mimic_set), [*trusted])
            for mimic_set in plan.sets
            for trusted in [plan.partners(mimic_set, questionable=False)]
        ]
        return make_checksum(self._off, template, pairs, plan.seed)

    @functools.cached_property
    def _regions(self):
        """Exclusion regions as text."""
        return regions_to_text(list(self._analysis.exclusion_regions))


def hash_files(datastore, obs_id):
    """Get a hash that changes when a file of an observation does.

    Parameters
    ----------
    datastore : `~gammapy.data.DataStore`
        Datastore.
    obs_id : int
        Observation ID.

    Returns
    -------
    checksum : str
        Hash of the files as they are in the index, with their sizes and times.
    """
    return make_checksum(_stamp_datastore(datastore, [obs_id]), __version__)


def _stamp(path):
    """Size and time of a file, None for none."""
    if path is None or not make_path(path).exists():
        return None
    stat = make_path(path).stat()
    return stat.st_size, stat.st_mtime_ns


def _stamp_datastore(datastore, obs_ids):
    """Files of observations, with their sizes and times."""
    table = datastore.hdu_table
    rows = np.nonzero(np.isin(to_obs_ids(table["OBS_ID"]), to_obs_ids(obs_ids)))[0]
    hdus = [(name, table[name][rows].tolist()) for name in table.colnames]
    paths = sorted({table.location_info(idx).path() for idx in rows})
    return hdus, [(str(_), _stamp(_)) for _ in paths]

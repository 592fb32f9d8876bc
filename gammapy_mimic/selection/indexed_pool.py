"""A pool of OFF observations, and what is known of them without reading them again."""

import logging

import numpy as np
from gammapy.data import Observations
from gammapy.utils.scripts import make_path

from ..data.obs_ids import shorten, to_obs_ids
from ..data.observation import get_off_observation
from ..exclusion.sky_regions import check_regions, regions_to_text
from .index import OffIndex
from .ranking import predict_counts

__all__ = ["IndexedPool"]

log = logging.getLogger(__name__)


class IndexedPool:
    """OFF observations and their index, which is made when it is needed.

    Parameters
    ----------
    observations : `~gammapy.data.DataStore` or `~gammapy.data.Observations`
        OFF observations.
    index : `OffIndex`, optional
        Index of them, and maybe of others, which are left out. It is used as it is,
        with a warning if files have changed. Default is to make it.
    energy_axis, offset_axis : `~gammapy.maps.MapAxis`, optional
        Bins. Default are those of `OffIndex`, or of ``index``.
    exclusion_regions : list of `~regions.SkyRegion`, optional
        Sources in any of the fields. Default is none, or those of ``index``.

    Raises
    ------
    ValueError
        If the index has other bins or regions, or none of the observations, or is a
        shard.
    """

    def __init__(
        self,
        observations,
        index=None,
        energy_axis=None,
        offset_axis=None,
        exclusion_regions=None,
    ):
        self.observations = observations
        self._axes = {"energy_axis": energy_axis, "offset_axis": offset_axis}
        self._regions = exclusion_regions
        if index is not None and index.archive is not None:
            raise ValueError(
                f"The index is a shard, with {len(index)} of {len(index.archive)} "
                "observations. Use OffIndex.merge of all of them."
            )
        if index is not None:
            self._check_agreement(index)
            names = getattr(observations, "obs_ids", None)
            if names is None:
                names = [_.obs_id for _ in observations]
            # what is not in the pool could be chosen, but not read
            wanted = np.isin(index.obs_ids, to_obs_ids(names))
            if not wanted.any():
                raise ValueError("The index has none of the off_observations.")
            if not wanted.all():
                index = index.select(index.obs_ids[wanted])
            changed = index.find_changed(observations)
            if changed:
                log.warning(
                    f"The files of OBS_ID {shorten(changed)} have changed since the "
                    "index was made, which is used as it is. Use "
                    "index.update(off_observations)."
                )
        self._set_index(index)

    def _set_index(self, index):
        self._index = index
        # predictions are in the bins of the index
        self._predicted = {}

    def __getstate__(self):
        """Make the index before anything is pickled, not in each process."""
        _ = self.index
        return self.__dict__

    @property
    def index(self):
        """Index of the OFF observations (`OffIndex`)."""
        if self._index is None:
            self.make_index()
        return self._index

    @property
    def exclusion_regions(self):
        """Exclusion regions, those of the index if there are no others."""
        if self._regions is not None:
            return self._regions
        return () if self._index is None else self._index.exclusion_regions

    def make_index(self, path=None, **options):
        """Make the index now, or make it again with what is new.

        Parameters
        ----------
        path : str or `~pathlib.Path`, optional
            File to keep the index in. If it exists, only what is new is read. It is
            made anew for other bins or exclusion regions, and if it is damaged.
        **options : dict, optional
            ``n_jobs`` and ``parallel_backend`` of `OffIndex.create`.

        Raises
        ------
        FileExistsError
            If the file is not an index.
        """
        known, kept = self._index, None
        if path is not None:
            # before the events are read, which may take hours
            OffIndex.check_own(path)
        if path is not None and make_path(path).exists():
            try:
                read = OffIndex.read(path)
                self._check_agreement(read)
                known = kept = read
            except ValueError as error:
                log.warning(f"Making the index {path} anew: {error}")
        if known is None:
            options |= {"exclusion_regions": self.exclusion_regions, **self._axes}
            self._set_index(OffIndex.create(self.observations, **options))
        else:
            self._set_index(known.update(self.observations, **options))
        # to see that nothing is new takes less time than to write it
        is_same = kept is not None and self._index.is_same(kept)
        if path is not None and not is_same:
            self._index.write(path, overwrite=True)

    def _check_agreement(self, index):
        """Check that an index has the bins and regions that are asked for."""
        for name, axis in self._axes.items():
            own = getattr(index, name).edges
            edges = own if axis is None else axis.edges
            # edges may have been kept in another unit, or as float32
            if own.shape != edges.shape or not np.allclose(own, edges, rtol=1e-6):
                raise ValueError(
                    f"{name} differs from that of the index. Leave it out, or make "
                    "the index with it."
                )
        if self._regions is None:
            return
        text = regions_to_text(check_regions(self._regions))
        if text != regions_to_text(index.exclusion_regions):
            raise ValueError(
                f"The {len(self._regions)} exclusion_regions are not those of the "
                f"index, which has {len(index.exclusion_regions)}. Leave them out, "
                "or make the index with them."
            )

    def index_targets(self, observations, n_jobs=None):
        """Make the index of targets, in the bins of the OFF observations.

        Parameters
        ----------
        observations : list of `~gammapy.data.Observation`
            Target observations.
        n_jobs : int, optional
            Number of processes. Default is that of `gammapy.utils.parallel`, 1.

        Returns
        -------
        targets : `OffIndex`
            Index.
        """
        return self.index.update(Observations(list(observations)), n_jobs=n_jobs)

    def get(self, obs_id):
        """Get an OFF observation that can be loaded without an effect on the pool."""
        return get_off_observation(self.observations, obs_id)

    def predict(self, observation, version):
        """Predict the counts of an observation in the bins of the index.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Target or OFF observation.
        version : tuple or None
            What tells its background IRF, which is read only if it is a new one, see
            `~gammapy_mimic.data.irfs.get_background_version`.

        Returns
        -------
        counts : `~numpy.ndarray`
            Counts in a second, 0 if there is no IRF. Shape (n_energy, n_offset).
        """
        if version is None:
            return np.zeros(self.index.binning.shape)
        # as text, for it may hold lists, which are no keys
        key = str(version)
        if key not in self._predicted:
            axes = self.index.energy_axis, self.index.offset_axis
            self._predicted[key] = predict_counts(observation.bkg, *axes)
        return self._predicted[key]

"""Select observations by an expression in the columns of the observation index."""

import numpy as np

__all__ = ["query_obs_table"]


def query_obs_table(table, query):
    """Select the rows of an observation table for which an expression is true.

    Parameters
    ----------
    table : `~gammapy.data.ObservationTable`
        Observation table.
    query : str
        Expression in the syntax of `pandas.DataFrame.query`, such as
        ``"TARGET_NAME == 'Off data' and ZEN_PNT < 40"``. Angles and times are in the
        units of their columns.

    Returns
    -------
    table : `~gammapy.data.ObservationTable`
        Selected rows.

    Raises
    ------
    ValueError
        If the expression is not valid, or no row is selected.
    """
    names = [name for name in table.colnames if table[name].ndim == 1]
    frame = table[names].to_pandas(index=False)
    for name in names:
        if table[name].dtype.kind == "S":
            frame[name] = np.char.strip(np.char.decode(np.asarray(table[name])))
    try:
        rows = frame.query(query).index.to_numpy()
    except Exception as error:
        raise ValueError(
            f"Cannot evaluate {query!r}: {error}. Columns are {names}."
        ) from error
    if len(rows) == 0:
        raise ValueError(f"No observation of {len(table)} satisfies {query!r}.")
    return table[rows]

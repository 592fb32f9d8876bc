"""The numbers of the README are those that its commands give, to the last digit."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from gammapy_mimic.estimators import MimicSystematics
from gammapy_mimic.scripts.main import cli
from gammapy_mimic.scripts.options import KeyValue

from .helpers import need_runs

README = (Path(__file__).parents[1] / "README.md").read_text()
SECTION = README.split("## What to expect\n")[1].split("\n## ")[0]


def get_command():
    """The arguments of the first command that reduces its mimics."""
    (command,) = re.findall(
        r"^gammapy-mimic (make .*?--outdir mimic)$", README, re.M | re.S
    )
    return shlex.split(command.replace("\\\n", " "))


def get_targets():
    """Query and exclusion region of each target, as the README gives them."""
    args = get_command()
    names = ("--target-query", "--exclude")
    (other,) = re.findall(
        r"for MSH 15-52 `(.*?)` and\s+`--exclude (.*?)`", SECTION, re.S
    )
    return {
        "pks2155_flare": tuple(args[args.index(_) + 1] for _ in names),
        "msh1552": other,
    }


def read_tables():
    """The two tables of the section as cells, the first without names of targets."""
    lines = re.findall(r"^\| (.*) \|$", SECTION, re.M)
    rows = [[_.strip() for _ in line.split("|")] for line in lines]
    heads = [idx for idx, row in enumerate(rows) if row[0] == "target"]
    return rows[: heads[1]], rows[heads[1] :]


def get_rows():
    """Rows of the table by target: set, and its numbers as they are printed."""
    rows, target = {}, None
    for name, *cells in read_tables()[0][2:]:
        target = name or target
        rows.setdefault(target, []).append(cells)
    return dict(zip(get_targets(), rows.values(), strict=True))


def get_widths():
    """Width of all sets by target and choice of partners, as they are printed."""
    (_, *choices), _, *rows = read_tables()[1]
    widths = [dict(zip(choices, cells, strict=True)) for _, *cells in rows]
    return dict(zip(get_targets(), widths, strict=True))


def get_criteria(choice):
    """Criteria of partners that are chosen without events, as the README gives them."""
    (options,) = re.findall(r"^```\n(--kl-max none.*?)```$", SECTION, re.M | re.S)
    criteria = shlex.split(options.replace("\\\n", " "))[3::2]
    convert = KeyValue().convert
    criteria = dict(convert(_, None, None) for _ in criteria)
    return {"random": criteria, "conditions": None}[choice]


def reduce_sets(store, outdir, tag):
    """Run the command of the README for a target, and read what it writes."""
    need_runs(store, tag, "offdata")
    command = get_command()
    query, region = get_targets()[tag]
    changes = {
        "--datastore": store.hdu_table.base_dir,
        "--target-query": query,
        "--exclude": region,
        "--outdir": outdir,
    }
    for name, value in changes.items():
        command[command.index(name) + 1] = str(value)
    result = CliRunner().invoke(cli, [*command, "--n-jobs", "2"])
    assert result.exit_code == 0, result.output
    table = MimicSystematics.read(outdir / "systematics.fits").select("significance")
    return table[table["name"] != "target"]


def format_row(row):
    return [
        row["name"].removeprefix("mimic_"),
        f"{row['mean']:.3f} ± {row['mean_err']:.3f}",
        f"{row['expected_mean']:.3f}",
        f"{row['width']:.3f} ± {row['width_err']:.3f}",
    ]


def test_table_has_all_sets():
    command = get_command()
    n_sets = int(command[command.index("--n-sets") + 1])
    sets = [*map(str, range(1, n_sets + 1)), "all"]
    rows = get_rows()
    assert list(rows) == ["pks2155_flare", "msh1552"]
    assert all([cells[0] for cells in _] == sets for _ in rows.values())
    for target, widths in get_widths().items():
        assert list(widths) == ["random", "conditions", "conditions and veto"]
        assert widths["conditions and veto"] == rows[target][-1][-1]
    names = {"airmass", "zenith", "muon_efficiency", "weights"}
    assert set(get_criteria("random")) == names
    for tag, (query, region) in get_targets().items():
        assert query == f"TARGET_TAG == '{tag}'"
        assert re.fullmatch(r"[0-9.]+,-[0-9.]+,0\.4", region)


@pytest.mark.slow
@pytest.mark.parametrize("tag", ["pks2155_flare", "msh1552"])
def test_table(hess_store, tmp_path, tag):
    table = reduce_sets(hess_store, tmp_path / "out", tag)
    assert [format_row(_) for _ in table] == get_rows()[tag]

"""Check that an sdist and a wheel hold what is under version control, and no more."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

LEFT_OUT = (".ci/", ".github/")
tracked = set(subprocess.check_output(["git", "ls-files"], text=True).splitlines())
expected = {_ for _ in tracked if not _.startswith(LEFT_OUT)}
package = {_ for _ in tracked if _.startswith("gammapy_mimic/")}

for path in map(Path, sys.argv[1:]):
    if path.suffix == ".whl":
        names = set(zipfile.ZipFile(path).namelist())
        found, wanted = {_ for _ in names if ".dist-info/" not in _}, package
    else:
        with tarfile.open(path) as archive:
            names = [_.name for _ in archive.getmembers() if _.isfile()]
        found = {_.partition("/")[2] for _ in names} - {"PKG-INFO"}
        wanted = expected
    if found != wanted:
        sys.exit(f"{path.name}: {sorted(found ^ wanted)}")
    sys.stdout.write(f"{path.name}: {len(found)} files\n")

"""A few changed files of every format each day, and thousands where there is time."""

import re

import pytest

from tests.fuzz.attempts import FAULT, Workspace
from tests.fuzz.campaign import names_of_formats, run, table
from tests.fuzz.formats import BY_NAME

SEED = 0


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", names_of_formats())
def test_a_changed_file_gives_a_result_or_a_refusal(root, name):
    space = Workspace(BY_NAME[name], root / re.sub(r"\W", "-", name))
    space.check()
    outcomes = {number: space.attempt(SEED, number) for number in range(4)}
    faults = {number: o.said for number, o in outcomes.items() if o.kind == FAULT}
    assert not faults


@pytest.mark.campaign
def test_thousands_of_changed_files_give_results_or_refusals(capsys):
    with capsys.disabled():
        rows = run(SEED, range(4, 104), names_of_formats(), print)
        print(f"\n{table(rows)}")
    assert not [row.name for row in rows if row.faults]

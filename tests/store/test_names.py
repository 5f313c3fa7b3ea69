"""References: `name@version`, or a name alone for the highest version."""

from pathlib import Path

import pytest

from almost_data.errors import InputError
from almost_data.run.importing import import_queries
from almost_data.store.names import check_version
from almost_data.store.store import Store


@pytest.fixture
def versions(tmp_path: Path) -> Store:
    store = Store(tmp_path / "build")
    (tmp_path / "queries.txt").write_text("Why?\nHow?\n")
    for version in ("0.9.0", "0.10.0", "0.10.0-rc", "0.11.0-rc", "0.2.0"):
        import_queries(store, str(tmp_path / "queries.txt"), version)
    return store


def test_a_name_alone_is_its_highest_version_without_a_suffix(versions: Store) -> None:
    assert versions.resolve("queries") == "queries@0.10.0"
    assert versions.resolve("queries@0.2.0") == "queries@0.2.0"
    numbers = [ref.partition("@")[2] for ref in versions.refs()]
    assert numbers == ["0.2.0", "0.9.0", "0.10.0-rc", "0.10.0", "0.11.0-rc"]


def test_a_version_is_written_without_a_v() -> None:
    with pytest.raises(InputError, match=r"write 5\.0\.0, without the v"):
        check_version("v5.0.0")


def test_a_full_reference_stays_as_it_is_even_where_nothing_is(versions: Store) -> None:
    for ref in ("responses@1.0.0", "ORG/NAME", "ORG/NAME@main"):
        assert versions.resolve(ref) == ref


def test_a_name_that_has_no_version_is_refused_with_the_names_that_exist(versions: Store) -> None:
    for name in ("answers", "quer", "queries-2"):
        with pytest.raises(InputError, match=rf"no {name} under .*name one of queries"):
            versions.resolve(name)
    with pytest.raises(InputError, match=r"the store is empty"):
        Store(versions.root / "empty").resolve("answers")

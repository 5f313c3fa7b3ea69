from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from almost_data.datasets import records
from almost_data.datasets.changes import changes
from almost_data.datasets.ledger import Count, Entry, check_ledger
from almost_data.datasets.manifest import (
    BuilderId,
    Parent,
    canonical_json,
    decode_manifest,
    encode_manifest,
    fingerprint,
)
from almost_data.errors import InputError
from almost_data.store.store import Store

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def entry(n_in: int, kept: int, failed: int = 0, unit: str = "query", **dropped: int) -> Entry:
    return Entry("stage", "filter", unit, "", {}, "", n_in, kept, dropped, failed)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_canonical_json_ignores_key_order(value: dict[str, object]) -> None:
    backwards = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(backwards)


def test_canonical_json_refuses_callables() -> None:
    with pytest.raises(TypeError):
        canonical_json({"filter": lambda row: row})


def test_fingerprint_depends_on_builder_config_and_parents() -> None:
    parent = Parent("queries@0.1.0", "d", "f")
    base = fingerprint(BuilderId("responses", 1), {"seed": 0}, [parent])
    assert base == fingerprint(
        BuilderId("responses", 1), {"seed": 0}, [Parent("queries@9.9.9", "d", "other")]
    )
    assert (
        len(
            {
                base,
                fingerprint(BuilderId("responses", 2), {"seed": 0}, [parent]),
                fingerprint(BuilderId("responses", 1), {"seed": 1}, [parent]),
                fingerprint(BuilderId("responses", 1), {"seed": 0}, [Parent("queries@0.1.0", "e", "f")]),
            }
        )
        == 4
    )


@given(JSON, JSON)
def test_changes_is_empty_exactly_for_equal_values(old: object, new: object) -> None:
    assert (changes(old, new) == []) == (canonical_json(old) == canonical_json(new))


def test_ledger_that_adds_up_passes() -> None:
    check_ledger([entry(10, 7, failed=1, a=1, b=1), entry(7, 7), entry(21, 20, unit="pair", a=1)])


@pytest.mark.parametrize(
    "ledger",
    [
        [entry(10, 9)],
        [entry(10, 11, a=-1)],
        [entry(10, 9, a=1), entry(8, 8)],
        [Entry("s", "f", "pair", "", {}, "", 3, 2, {"a": 1}, 0, {"A > B": Count(3, 3, {})})],
    ],
)
def test_ledger_that_loses_rows_is_refused(ledger: list[Entry]) -> None:
    with pytest.raises(ValueError, match="ledger"):
        check_ledger(ledger)


def test_manifest_has_the_promised_keys_and_survives_a_round_trip(fake_store: Store) -> None:
    data = (fake_store.path("comparisons@0.1.0") / "manifest.json").read_bytes()
    assert (
        list(msgspec.json.decode(data))
        == (
            "kind name version builder config fingerprint digest parents tables ledger counts diagnostics"
            " environment created sizes files sha256"
        ).split()
    )
    assert encode_manifest(decode_manifest(data, "here")) == data
    assert {"stage", "filter", "unit", "params", "source", "in", "kept", "dropped", "failed"} <= set(
        msgspec.json.decode(data)["ledger"][0]
    )


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'{"kind": "poem"}'])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"^file\.json: not a manifest"):
        decode_manifest(data, "file.json")


@pytest.mark.parametrize(
    "text",
    [
        {"findings": [{"name": {}, "measure": "m", "value": "1", "number": 1.0, "level": "fine"}]},
        {"findings": [{"name": "n", "measure": "m", "value": "1", "number": "1", "level": "fine"}]},
        {"length_gap": {"q50": []}},
    ],
)
def test_findings_of_another_type_are_refused(text: dict[str, Any]) -> None:
    """`diff` reads them."""
    with pytest.raises(msgspec.ValidationError, match=r"diagnostics\.text"):
        records.check(
            "dataset",
            config={"settings": {}},
            diagnostics={"models": [], "notes": [], "text": text},
            environment={},
        )

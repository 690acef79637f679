"""Two class names are the same text, or they are not."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_resnet.data.names import canonical

CAFE = "caf\u00e9"
BOM = "\ufeff"


FORMS = [
    "cafe\u0301",
    " caf\u00e9",
    "caf\u00e9\t",
    "caf\u00e9\r\n",
    "caf\u00e9\u00a0",
    BOM + CAFE,
    f" {BOM} {CAFE}{BOM} ",
]


@pytest.mark.parametrize("name", FORMS)
def test_one_text_in_many_forms(name):
    assert canonical(name) == CAFE


@pytest.mark.parametrize(
    "name", ["Cat", "sea lion", "sea  lion", "K\u00f6ln", "\u65e5\u672c", "x\udcff", "\u2460", "\ufb01sh"]
)
def test_what_makes_another_name_is_kept(name):
    # Case, white space inside a name, undecodable bytes, and what only NFKC would change.
    assert canonical(name) == name


@given(st.text(st.sampled_from("aA\u00e9\u0301 \t\u00a0\u2000\ufeff\u200b\uac00\u1100\u1161"), max_size=8))
def test_it_is_a_canonical_form(name):
    found = canonical(name)
    assert canonical(found) == found == unicodedata.normalize("NFC", found) == found.strip()
    assert canonical(unicodedata.normalize("NFD", name)) == found

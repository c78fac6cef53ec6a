"""What was used last stays, as long as it weighs no more than the limit."""

from k2common.iceberg.files.lru import Recent


def test_what_was_used_longest_ago_goes_first() -> None:
    recent = Recent[str, int](limit=2)
    recent.put("a", 1)
    recent.put("b", 2)
    assert recent.get("a") == 1
    recent.put("c", 3)
    assert [recent.get(key) for key in "abc"] == [1, None, 3]


def test_values_weigh_what_they_weigh_also_when_they_are_put_anew() -> None:
    recent = Recent[str, str](limit=5, weight=len)
    recent.put("a", "four")
    recent.put("a", "two")
    recent.put("b", "2b")
    assert (recent.get("a"), recent.get("b")) == ("two", "2b")
    recent.put("c", "c")
    assert [recent.get(key) for key in "abc"] == [None, "2b", "c"]
    recent.put("d", "longer than that")
    assert [recent.get(key) for key in "abcd"] == [None, "2b", "c", None]

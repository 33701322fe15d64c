from __future__ import annotations


def test_what_a_page_asks_for_is_noticed(tmp_path, browse):
    """Else the tests that a report asks for nothing would show nothing."""
    page = tmp_path / "page.html"
    page.write_text("<img src='http://outside.invalid/x.png'>")
    assert browse(page, tmp_path / "page.png", 100) == ["outside.invalid"]

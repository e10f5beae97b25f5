"""The controls that a visitor sees on the page, by the names that are read there, and how each is used."""

import re
from collections.abc import Callable

from playwright.sync_api import Page

from tests.support.visitors import UNSEEN_FOCUS


Use = Callable[[Page], None]  # does what a person does with a control, and asserts what comes of it
# Where a dialog is open, nothing beside it can be used.
VISIBLE = """(() => {
  const kinds = 'button, a[href], summary, select, input, textarea, [role=button], [role=tab], [role=slider], [tabindex="0"]'
  const root = [...document.querySelectorAll('dialog[open]')].at(-1) ?? document
  return [...root.querySelectorAll(kinds)].filter(one =>
    one.checkVisibility({visibilityProperty: true}) && !one.closest('[aria-hidden=true]') && !one.disabled)
})()"""
NAME = "one => (one.ariaLabel ?? one.labels?.[0]?.innerText ?? one.innerText).replace(/\\s+/g, ' ').trim()"
# Of radio buttons and tabs Tab reaches the chosen one; arrows reach the others.
BY_TAB = "one => !(one.type === 'radio' && !one.checked) && one.tabIndex >= 0"


def visible_controls(page: Page) -> list[str]:
    return page.evaluate(f"{VISIBLE}.map({NAME})")


def use_every_control(page: Page, uses: dict[str, Use], elsewhere: set[str]) -> None:
    """Use each control that is visible now, and leave the page as it is.

    Args:
        uses: by a regular expression of the control's name. Where it matches several, one of them is used.
        elsewhere: names of those that are used in another state of the page.
    """
    seen = visible_controls(page)
    assert [name for name in seen if not any(re.fullmatch(known, name) for known in (*uses, *elsewhere))] == []
    assert [known for known in uses if not any(re.fullmatch(known, name) for name in seen)] == []
    for use in uses.values():
        use(page)


def walk_by_keyboard(page: Page) -> None:
    """Tab reaches every visible control, each with an outline, and Shift+Tab goes back the same way."""
    expected = page.evaluate(f"{VISIBLE}.filter({BY_TAB}).map({NAME})")
    around = stops(page, "Tab", len(expected) + 1)
    assert sorted(around[:-1]) == sorted(expected)
    assert around[-1] == around[0]
    assert stops(page, "Shift+Tab", len(expected)) == around[-2::-1]


def stops(page: Page, key: str, count: int) -> list[str]:
    """Names of the next controls that the key reaches. Each has an outline."""
    names: list[str] = []
    # between the last control and the first one the page itself has the focus, or the browser
    for _ in range(count + 3):
        page.keyboard.press(key)
        unseen, name = page.evaluate(
            f"[({UNSEEN_FOCUS})(), document.activeElement === document.body ? null : ({NAME})(document.activeElement)]"
        )
        assert unseen is None, unseen
        names += [name] if name is not None else []
        if len(names) == count:
            break
    return names

"""Controls of interacts: from defaults, described to clients, and what comes back from them."""

import json
import unittest
from decimal import Decimal
from fractions import Fraction

from runner.kernel import automatic, wire
from runner.kernel.automatic import NAMES, control


def described(made):
    """As it arrives."""
    return json.loads(wire.to_json({"control_type": made.kind, **made.described()}))


class AutomaticTest(unittest.TestCase):
    def test_each_default_has_its_control(self):
        kinds = [
            (5, "input_box", 5),
            (2.5, "input_box", 2.5),
            (Fraction(1, 3), "input_box", Fraction(1, 3)),
            ("text", "input_box", "text"),
            (True, "checkbox", True),
            ((1, 10), "slider", 1),
            ((0, 1, 0.25), "slider", 0),
            ((4, (1, 10)), "slider", 4),
            (("a", "b", "c", "d"), "slider", "a"),
            (iter("xyz"), "slider", "x"),
            ([1, 2, 3], "selector", 1),
            ((2, [1, 2, 3]), "selector", 2),
            (range(20), "selector", 0),
            ([("value", "label"), ("other", "more")], "selector", "value"),
            ([7], "button", 7),
        ]
        for default, kind, value in kinds:
            made = control(default, "x")
            with self.subTest(default=default):
                self.assertEqual((made.kind, made.given({})), (kind, value))
                self.assertIsNone(made.label)
                # Whatever it is, a client can read it.
                described(made)

    def test_a_label_comes_first(self):
        for default, kind in ((5, "input_box"), ((1, 10), "slider"), ([1, 2], "selector"), ("text", "input_box"), (False, "checkbox")):
            made = control(("a label", default), "x")
            self.assertEqual((made.label, made.kind), ("a label", kind))
        made = control(("a label", (4, (1, 10))), "x")
        self.assertEqual((made.label, made.given({})), ("a label", 4))

    def test_few_choices_are_buttons(self):
        self.assertEqual(described(control([1, 2, 3], "x"))["subtype"], "button")
        many = described(control(range(6), "x"))
        self.assertEqual((many["subtype"], many["values"], many["nrows"]), ("list", 6, None))

    def test_no_update_by_itself(self):
        made = control(False, "auto_update")
        self.assertEqual((made.kind, made.text, made.given({})), ("button", "Update", False))

    def test_what_stands_for_no_control_says_why(self):
        for default in ((), [], (3, 3), (1, 2, 0), (5, 1, 1), (None, 3), (float("nan"), 1), (0, float("inf")), (9, ["a", "b"]), iter(())):
            with self.subTest(default=default), self.assertRaisesRegex(ValueError, r"^x=.* is no control: "):
                control(default, "x")


class DescriptionTest(unittest.TestCase):
    def test_sliders_over_numbers(self):
        made = NAMES["slider"](1, 10, default=4)
        shown = {"control_type": "slider", "subtype": "continuous", "range": [1.0, 10.0], "step": 0.02, "default": 4}
        self.assertEqual(described(made), {**shown, "display_value": True})
        made = NAMES["range_slider"](0, 1.0, default=(0.2, 0.8))
        self.assertEqual(described(made)["subtype"], "continuous_range")
        self.assertEqual((described(made)["default"], made.given({})), ([0.2, 0.8], (0.2, 0.8)))

    def test_sliders_over_values(self):
        made = NAMES["slider"](1, 9, 2, default=4.9)
        shown = {"subtype": "discrete", "values": ["1", "3", "5", "7", "9"], "range": [0, 4], "step": 1, "default": 2}
        self.assertEqual(described(made), {"control_type": "slider", **shown, "display_value": True})
        self.assertEqual(described(NAMES["slider"](["a", "b"]))["values"], ["a", "b"])
        self.assertEqual(described(control((0, 0.3, 0.1), "x"))["values"], ["0.0", "0.1", "0.2", "0.3"])
        made = NAMES["range_slider"](1, 5, 1)
        self.assertEqual((described(made)["subtype"], made.given({})), ("discrete_range", (1, 5)))

    def test_many_steps_are_not_told_one_by_one(self):
        made = control((0, 10**9, 5), "x")
        shown = described(made)
        self.assertEqual((shown["subtype"], shown["step"], shown["range"]), ("continuous", 5.0, [0.0, 1e9]))
        made.value = made.checked(12.6)
        self.assertEqual(made.given({}), 15)

    def test_whole_numbers_stay_whole(self):
        made = control((1, 10), "x")
        for came, given in ((7, 7), (7.0, 7), (7.5, 7.5)):
            made.value = made.checked(came)
            self.assertEqual(repr(made.given({})), repr(given))

    def test_numbers_of_all_kinds_can_be_told(self):
        for ends in ((Fraction(1, 2), 3), (Decimal("0.5"), Decimal(3))):
            shown = described(control(ends, "x"))
            self.assertEqual((shown["range"], shown["default"]), ([0.5, 3.0], 0.5))

    def test_several_sliders(self):
        made = NAMES["MultiSlider"](sliders=2, interval=[(0, 10)], default=[3, 4])
        shown = described(made)
        self.assertEqual((shown["sliders"], shown["range"], shown["default"]), (2, [[0.0, 10.0]] * 2, [3, 4]))
        self.assertEqual(made.given({}), [3, 4])
        made = NAMES["MultiSlider"](sliders=2, values=["ab", "cd"], slider_type="discrete")
        self.assertEqual((described(made)["values"], made.given({})), ([["a", "b"], ["c", "d"]], ["a", "c"]))

    def test_selectors(self):
        made = NAMES["selector"]([1, 2, 3], default=2, nrows=2)
        shown = {"subtype": "button", "values": 3, "value_labels": ["1", "2", "3"], "default": 1, "nrows": 2, "ncols": 2}
        self.assertEqual(described(made), {"control_type": "selector", **shown, "width": ""})

    def test_boxes(self):
        made = NAMES["input_box"]("a", type=str, height=3)
        shown = described(made)
        self.assertEqual((shown["subtype"], shown["default"], shown["evaluate"]), ("textarea", "a", False))
        made = NAMES["input_box"](3, type=float)
        self.assertEqual((described(made)["evaluate"], made.given({})), (True, 3.0))
        made.value = made.checked("n + 1")
        self.assertEqual(made.given({"n": 4}), 5.0)

    def test_what_has_no_expression_stands_for_itself(self):
        thing = object()
        self.assertIs(control(thing, "x").given({}), thing)

    def test_grids(self):
        made = NAMES["input_grid"](2, 2, default=[[1, 2], [3, 4]], to_value=lambda rows: sum(map(sum, rows)))
        self.assertEqual((described(made)["default"], made.given({})), ([["1", "2"], ["3", "4"]], 10))
        self.assertEqual(described(NAMES["input_grid"](1, 3))["default"], [["0", "0", "0"]])
        with self.assertRaisesRegex(ValueError, "2 by 2 has no 3 values"):
            NAMES["input_grid"](2, 2, [1, 2, 3])

    def test_colours(self):
        for given, told in (("red", "#ff0000"), ("#0f0", "#00ff00"), ((0, 0, 1), "#0000ff"), ("#ABCDEF", "#abcdef")):
            self.assertEqual(described(NAMES["color_selector"](given))["default"], told)
        with self.assertRaisesRegex(ValueError, "colour"):
            NAMES["color_selector"]("no colour")

    def test_buttons_do_not_stay(self):
        made = NAMES["Button"](default=0, value=1, text="more")
        made.value = made.checked(True)
        self.assertEqual(made.given({}), 1)
        made.reset()
        self.assertEqual(made.given({}), 0)
        made = NAMES["ButtonBar"]([(1, "up"), (-1, "down")], default=0)
        self.assertEqual((described(made)["value_labels"], made.given({})), (["up", "down"], 0))
        made.value = made.checked(1)
        self.assertEqual(made.given({}), -1)


class AnswerTest(unittest.TestCase):
    """What clients may send, and what not."""

    def test_values_of_the_wrong_kind_are_refused(self):
        wrong = [
            (True, [1, "true", None, [True]]),
            ("text", [1, None, ["a"], True]),
            (5, [5, None]),
            ((1, 10), ["5", None, [5], True, float("nan"), float("inf"), {}]),
            ((1, 10, 1), ["1", 1.5, -1, 10, True, None]),
            ([1, 2, 3], ["1", 3, -1, None, False, 10**30]),
            ([7], [1, "x", None]),
            (NAMES["range_slider"](0, 9), [3, [1], [1, 2, 3], ["1", 2], None]),
            (NAMES["MultiSlider"](sliders=2), [3, [1], ["1", 2], None]),
            (NAMES["input_grid"](1, 2), ["x", [["1"]], [["1", 2]], [["1", "2"], ["3", "4"]], None]),
            (NAMES["color_selector"](), ["red", "#12345", "#12345g", 5, None]),
            (NAMES["ButtonBar"]([1, 2]), [2, "1", True]),
            (NAMES["text_control"]("x"), [5]),
        ]
        for default, values in wrong:
            made = control(default, "x")
            before = made.value
            for value in values:
                with self.subTest(kind=made.kind, value=value), self.assertRaisesRegex(ValueError, "expected"):
                    made.checked(value)
            self.assertEqual(made.value, before)

    def test_numbers_beyond_the_ends_are_at_the_ends(self):
        made = control((1, 10), "x")
        self.assertEqual([made.checked(value) for value in (-5, 10.0000001)], [1, 10])

    def test_two_handles_are_in_order(self):
        self.assertEqual(NAMES["range_slider"](0, 9).checked([7, 2]), [2, 7])

    def test_nobody_is_told_of_too_many_values(self):
        made = control((at for at in range(10**9)), "x")
        self.assertEqual(len(described(made)["values"]), automatic.controls.MOST_VALUES)


if __name__ == "__main__":
    unittest.main()

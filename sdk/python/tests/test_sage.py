"""What code finds in a session of Sage Cell, in a kernel of the standard library."""

import json
import time
import unittest

from runner.kernel import interact, sage, wire

from .zygote import ZygoteCase

ENABLE = "from runner.kernel import sage; sage.enable()"
FILES = {"_sagecell_files": "sys._sage_.new_files()"}
UPDATE = "sagenb.interact.update_interact"
SLIDER = "@interact\ndef f(n=(1, 10)):\n    print('n is', n)"


class ProcessTest(unittest.TestCase):
    def test_where_no_kernel_serves_it_says_so(self):
        with self.assertRaisesRegex(RuntimeError, "no kernel serves"):
            sage.enable()


class SageCase(ZygoteCase):
    def setUp(self):
        super().setUp()
        self.line = self.fork("one")
        self.ask(self.line, "execute_request", {"code": ENABLE, "silent": True})

    def cell(self, code, **more):
        return self.ask(self.line, "execute_request", {"code": code, "user_expressions": FILES, **more})

    def update(self, id, values=None, **more):
        return self.ask(self.line, UPDATE, {"interact_id": id, "values": values or {}, "update_last": False, **more})

    def text(self, said):
        return "".join(one.content["text"] for one in said if one.header["msg_type"] == "stream")

    def reply(self, said):
        (reply,) = [one for one in said if one.channel == "shell"]
        return reply.content

    def shown(self, said, mime):
        return [one.content["data"][mime] for one in said if mime in one.content.get("data", {})]

    def made(self, code):
        """The interact that a cell makes, as it is told."""
        (made,) = self.shown(self.cell(code), "application/sage-interact")
        return made


class NamesTest(SageCase):
    def test_enabling_is_idempotent_and_leaves_nothing(self):
        self.cell("import sys; before = sys._sage_; html = 'mine'")
        said = self.ask(self.line, "execute_request", {"code": ENABLE, "silent": True})
        self.assertEqual(self.reply(said)["status"], "ok")
        self.assertEqual(self.text(self.cell("print(before is sys._sage_, html, 'sage' in globals())")), "True mine False\n")

    def test_enabling_is_cheap(self):
        line = self.fork("two")
        code = f"import time; t = time.perf_counter()\n{ENABLE}\nprint(time.perf_counter() - t)"
        seconds = float(self.text(self.ask(line, "execute_request", {"code": code})))
        # A millisecond, where nobody else takes the time.
        self.assertLess(seconds, 0.01)

    def test_a_cell_that_fails_has_a_payload_too(self):
        self.assertEqual(self.reply(self.cell("1/0"))["payload"], [])
        self.assertEqual(self.reply(self.cell("1"))["payload"], [])
        self.assertEqual(self.reply(self.ask(self.line, "execute_request", {"code": 5}))["payload"], [])

    def test_html_is_shown(self):
        said = self.cell('html("""<b>bold</b>""")')
        self.assertEqual(self.shown(said, "text/html"), ["<b>bold</b>"])
        self.assertNotIn("execute_result", [one.header["msg_type"] for one in said])

    def test_other_languages_come_wrapped(self):
        self.assertEqual(self.text(self.cell('print(sh.eval("""echo \\"from a shell\\""""))')), "from a shell\n")
        self.assertEqual(self.text(self.cell('exec("""print(6 * 7)""")')), "42\n")
        said = self.cell('print(nothing.eval("""1"""))')
        self.assertEqual(self.reply(said)["ename"], "NameError")

    def test_messages_of_cells(self):
        said = self.cell("sys = __import__('sys'); sys._sage_.display_message({'text/plain': 'shown'}, {'a': 1})\nprint('after')")
        (shown,) = [one for one in said if one.header["msg_type"] == "display_data"]
        self.assertEqual((shown.content["data"], shown.metadata), ({"text/plain": "shown"}, {"a": 1}))
        said = self.cell("print('before'); sys._sage_.stream_message('stderr', 'said', {'b': 2}); print('after')")
        streams = [(one.content["name"], one.content["text"], one.metadata) for one in said if one.header["msg_type"] == "stream"]
        self.assertEqual(streams, [("stdout", "before\n", {}), ("stderr", "said", {"b": 2}), ("stdout", "after\n", {})])
        self.assertEqual(self.shown(self.cell("sys._sage_.clear()"), "application/sage-clear"), [{"changed": []}])
        self.assertIn("there is no 'x'", self.reply(self.cell("sys._sage_.stream_message('x', 'y')"))["evalue"])

    def test_the_timeout_is_told(self):
        def told(code):
            return [one.content["timeout"] for one in self.cell(code) if one.header["msg_type"] == "kernel_timeout"]

        self.assertEqual(told("import sys; sys._sage_.reset_kernel_timeout(60)"), [60.0])
        # JSON has no such number.
        self.assertEqual(told("sys._sage_.reset_kernel_timeout(float('inf'))"), ["inf"])
        for wrong in (-1, float("nan"), "soon", None):
            said = self.cell(f"nan = float('nan'); sys._sage_.reset_kernel_timeout({wrong!r})")
            self.assertEqual(self.reply(said)["status"], "error")


class FilesTest(SageCase):
    def test_files_are_told_in_the_reply(self):
        said = self.reply(self.cell("import sys\nfor name in ('a b.txt', 'ü.txt'): open(name, 'w').close()"))
        self.assertEqual(said["payload"], [{"new_files": ["a b.txt", "ü.txt"]}])
        self.assertEqual(said["user_expressions"]["_sagecell_files"]["data"]["text/plain"], "['a b.txt', 'ü.txt']")
        said = self.reply(self.cell("import os; os.remove('a b.txt')"))
        self.assertEqual((said["payload"], said["user_expressions"]["_sagecell_files"]["data"]["text/plain"]), ([], "[]"))

    def test_what_others_drew_is_shown(self):
        said = self.cell("import sys; open('Rplot001.png', 'w').close(); sys._sage_.sent_files['b'] = 1e99; open('b', 'w').close()")
        (link,) = self.shown(said, "text/image-filename")
        self.assertRegex(link, r"^Rplot001\.png\?m=[0-9.]+$")
        self.assertEqual(self.reply(said)["payload"], [])

    def test_a_picture_can_be_shown_by_hand(self):
        said = self.cell("open('a b.png', 'w').close(); import sys; sys._sage_.display_file('a b.png', 'text/image-filename')")
        self.assertTrue(self.shown(said, "text/image-filename")[0].startswith("a%20b.png?m="))
        self.assertEqual(self.reply(said)["payload"], [])

    def test_ten_thousand_files_are_told_soon(self):
        self.cell("import sys\nfor n in range(10_000): open(f'{n}.txt', 'w').close()")
        begun = time.monotonic()
        self.assertEqual(self.reply(self.cell("pass"))["payload"], [])
        self.assertLess(time.monotonic() - begun, 2)


class InteractTest(SageCase):
    def test_it_is_shown_and_answers(self):
        said = self.cell(SLIDER)
        (made,) = self.shown(said, "application/sage-interact")
        self.assertEqual((made["layout"], made["locations"], made["readonly"]), ([[["n", 1]], [["_output", 1]]], None, False))
        control = made["controls"]["n"]
        self.assertEqual((control["control_type"], control["label"], control["update"]), ("slider", "n", True))
        id = made["new_interact_id"]
        # Shown, cleared, and run, in this order; and the session is kept.
        marks = [(one.header["msg_type"], one.metadata.get("interact_id")) for one in said if one.channel == "iopub"]
        kinds = [("status", None), ("execute_input", None), ("display_data", None), ("kernel_timeout", None)]
        self.assertEqual(marks, [*kinds, ("display_data", id), ("stream", id), ("status", None)])
        said = self.update(id, {"n": 7}, user_expressions=FILES)
        marks = [(one.channel, one.header["msg_type"], one.metadata.get("interact_id")) for one in said]
        shown = [("iopub", "display_data", id), ("iopub", "stream", id), ("shell", UPDATE + "_reply", None)]
        self.assertEqual(marks, [("iopub", "status", None), *shown, ("iopub", "status", None)])
        self.assertEqual(self.shown(said, "application/sage-clear"), [{"changed": ["n"]}])
        self.assertEqual(self.text(said), "n is 7\n")
        reply = self.reply(said)
        self.assertEqual((reply["status"], reply["result"], reply["payload"]), ("ok", None, []))
        self.assertEqual(reply["user_expressions"]["_sagecell_files"]["status"], "ok")

    def test_what_is_printed_after_it_belongs_to_the_cell(self):
        said = self.cell("print('before')\n" + SLIDER + "\nprint('after')")
        marks = [("interact_id" in one.metadata, one.content["text"]) for one in said if one.header["msg_type"] == "stream"]
        self.assertEqual(marks, [(False, "before\n"), (True, "n is 1\n"), (False, "after\n")])

    def test_what_is_no_update_changes_nothing(self):
        id = self.made(SLIDER)["new_interact_id"]
        other = self.fork("other")
        self.ask(other, "execute_request", {"code": ENABLE, "silent": True})
        said = self.ask(other, UPDATE, {"interact_id": id, "values": {"n": 7}})
        self.assertIn("has no interact", self.reply(said)["evalue"], "one of another session")
        wrong = [
            ("nobody", {"n": 7}, "this session has no interact 'nobody'"),
            (None, {"n": 7}, "has no interact"),
            ([id], {"n": 7}, "has no interact"),
            (id, {"n": "seven"}, "n: a number was expected, not 'seven'"),
            (id, {"n": None}, "n: a number was expected"),
            (id, {"n": 2, "m": 2}, "interact f has no control 'm'"),
            (id, [7], "`values` is to be an object"),
        ]
        for name, values, why in wrong:
            said = self.ask(self.line, UPDATE, {"interact_id": name, "values": values})
            reply = self.reply(said)
            self.assertEqual((reply["status"], reply["ename"], reply["payload"]), ("error", "ValueError", []))
            self.assertIn(why, reply["evalue"])
            self.assertEqual([one.header["msg_type"] for one in said if one.channel == "iopub"], ["status", "status"])
        said = self.update(id, {}, user_expressions=[1])
        self.assertIn("`user_expressions` is to be an object", self.reply(said)["evalue"])
        self.assertEqual(self.text(self.update(id, update_last=True)), "n is 1\n")

    def test_a_function_that_raises_is_shown_where_it_stands_and_can_go_on(self):
        said = self.cell("@interact\ndef f(n=[0, 1]):\n    print(1 / n)\nprint('on')")
        self.assertEqual((self.reply(said)["status"], self.text(said)), ("ok", "on\n"))
        (error,) = [one for one in said if one.header["msg_type"] == "error"]
        (made,) = self.shown(said, "application/sage-interact")
        self.assertEqual((error.content["ename"], error.metadata), ("ZeroDivisionError", {"interact_id": made["new_interact_id"]}))
        self.assertIn("in f\n", "\n".join(error.content["traceback"]))
        self.assertNotIn("interact.py", "\n".join(error.content["traceback"]))
        self.assertEqual(self.text(self.update(made["new_interact_id"], {"n": 1})), "1.0\n")
        said = self.update(made["new_interact_id"], {"n": 0})
        self.assertEqual((self.reply(said)["status"], self.reply(said)["ename"]), ("error", "ZeroDivisionError"))
        self.assertEqual([one.metadata for one in said if one.header["msg_type"] == "error"], [error.metadata])
        # What comes then is not marked.
        self.assertEqual([one.metadata for one in self.cell("print(1)") if one.header["msg_type"] == "stream"], [{}])

    def test_an_expression_that_is_none_is_shown(self):
        made = self.made("@interact\ndef f(n=5): print(n)")
        for text, name in (("1 +", "SyntaxError"), ("nobody", "NameError")):
            said = self.update(made["new_interact_id"], {"n": text})
            self.assertEqual(self.reply(said)["ename"], name)
        self.assertEqual(self.text(self.update(made["new_interact_id"], {"n": "2 + 3"})), "5\n")

    def test_an_endless_function_is_interrupted(self):
        made = self.made("@interact\ndef f(go=False):\n    while go: print('more')")
        content = {"interact_id": made["new_interact_id"], "values": {"go": True}}
        header = {"msg_id": "endless", "msg_type": UPDATE}
        self.line.write(wire.encode([b"shell", wire.to_json(header), b"{}", b"{}", wire.to_json(content)]))
        while "more" not in self.line.read().content.get("text", ""):
            pass
        self.control.send(json.dumps({"interrupt": "one"}).encode())
        heard = [self.line.read()]
        while heard[-1].content.get("execution_state") != "idle":
            heard.append(self.line.read())
        self.assertEqual(self.reply(heard)["ename"], "KeyboardInterrupt")
        self.assertEqual(self.text(self.cell("print('on')")), "on\n")
        self.assertEqual(self.reply(self.update(made["new_interact_id"], {"go": False}))["status"], "ok")

    def test_nothing_runs_without_the_button(self):
        made = self.made("@interact\ndef f(n=(1, 10), auto_update=False): print(n, auto_update)")
        updates = {name: one["update"] for name, one in made["controls"].items()}
        self.assertEqual(updates, {"n": False, "auto_update": True})
        self.assertEqual(made["controls"]["auto_update"]["text"], "Update")
        said = self.update(made["new_interact_id"], {"n": 7})
        self.assertEqual((self.reply(said)["status"], self.text(said)), ("ok", ""))
        self.assertEqual(self.text(self.update(made["new_interact_id"], {"auto_update": True})), "7 True\n")
        self.assertEqual(self.text(self.update(made["new_interact_id"], update_last=True)), "7 False\n")

    def test_only_chosen_controls_update(self):
        made = self.made("@interact(update=['a'])\ndef f(a=True, b=True): print(a, b)")
        self.assertEqual([one["update"] for one in made["controls"].values()], [True, False])
        made = self.made("@interact(update=['*'])\ndef f(a=True, b=True): print(a, b)")
        self.assertEqual([one["update"] for one in made["controls"].values()], [True, True])
        self.assertIn("no controls c", self.reply(self.cell("@interact(update=['c'])\ndef f(a=True): pass"))["evalue"])

    def test_controls_may_be_listed(self):
        said = self.cell("@interact([('a', (1, 10)), 'b'], automatic_labels=False)\ndef f(**names): print(names)")
        self.assertEqual(self.text(said), "{'a': 1, 'b': ''}\n")
        (made,) = self.shown(said, "application/sage-interact")
        self.assertEqual([one["label"] for one in made["controls"].values()], ["", ""])

    def test_layouts(self):
        def layout(words, code="a=1, b=2, c=3"):
            return self.made(f"@interact({words})\ndef f({code}): pass")

        self.assertEqual(layout("layout=[['a', ('b', 3)]]")["layout"], [[["a", 1], ["b", 3]], [["c", 1]], [["_output", 1]]])
        rows = [[["c", 1]], [["a", 1]], [["_output", 1]], [["b", 1]]]
        self.assertEqual(layout("layout={'top': [['c']], 'left': ['a'], 'bottom': [['b']]}")["layout"], rows)
        self.assertEqual(layout("output=False", "a=1")["layout"], [[["a", 1]]])
        made = layout("locations='here-', readonly=True", "a=1")
        self.assertEqual(made["locations"], {"a": "#here-a", "_output": "#here-_output", "_bookmarks": "#here-_bookmarks"})
        self.assertEqual((made["layout"], made["readonly"]), ([], True))
        for words, why in (("layout=[['x']]", "no control"), ("layout=[['a', 'a']]", "twice")):
            self.assertIn(why, self.reply(self.cell(f"@interact({words})\ndef f(a=1): pass"))["evalue"])

    def test_what_is_no_interact_is_an_error_of_the_cell(self):
        for code in (
            "@interact\ndef f(a=()): pass",
            "@interact\ndef f(_a=1): pass",
            "@interact([('a', 1)])\ndef f(a=1): pass",
            "interact(5)()",
            "interact(print, controls=[(5, 5)])",
        ):
            self.assertEqual(self.reply(self.cell(code))["status"], "error", code)

    def test_the_user_has_its_controls(self):
        self.cell("@interact\ndef f(self, n=(1, 10), c=['a', 'b']): print(self.n, n, c)")
        said = self.cell("f.n = 3; f.c = 'b'; print(f.n, f._state()); f._update(); f(f, 1, 'x')")
        self.assertEqual([one["value"] for one in self.shown(said, "application/sage-interact-update")], [3, 1])
        self.assertEqual(self.text(said), "3 {'n': 3, 'c': 'b'}\n3 3 b\n3 1 x\n")
        self.assertIn("has no 'm'", self.reply(self.cell("f.m = 3"))["evalue"])
        self.assertIn("expected", self.reply(self.cell("f.n = 'x'"))["evalue"])
        self.assertEqual(self.reply(self.cell("import copy; copy.copy(f).n, dir(f), repr(f)"))["status"], "ok")

    def test_inner_ones_are_forgotten_with_the_output_that_had_them(self):
        said = self.cell("@interact\ndef f(n=(1, 3)):\n    @interact\n    def g(m=(0, n)): print('g', n, m)")
        outer, inner = self.shown(said, "application/sage-interact")
        marks = [one.metadata for one in said if "application/sage-interact" in one.content.get("data", {})]
        self.assertEqual(marks, [{}, {"interact_id": outer["new_interact_id"]}])
        self.assertEqual(self.text(self.update(inner["new_interact_id"], {"m": 1})), "g 1 1\n")
        self.assertEqual(self.text(self.update(outer["new_interact_id"], {"n": 2})), "g 2 0\n")
        self.assertIn("any more", self.reply(self.update(inner["new_interact_id"], {"m": 1}))["evalue"])

    def test_there_are_only_so_many(self):
        first = self.made(SLIDER)["new_interact_id"]
        said = self.cell(f"for _ in range({interact.MOST}):\n    @interact\n    def g(n=1): pass")
        last = self.shown(said, "application/sage-interact")[-1]["new_interact_id"]
        self.assertIn("any more", self.reply(self.update(first, {"n": 2}))["evalue"])
        self.assertEqual(self.reply(self.update(last, {"n": "2"}))["status"], "ok")
        said = self.cell("def h(n=1): interact(h)\ninteract(h)")
        self.assertIn(self.reply(said)["status"], ("ok", "error"))
        self.assertEqual(self.text(self.cell("print('on')")), "on\n")

    def test_buttons_are_pressed_once(self):
        made = self.made("count = 0\n@interact\ndef f(n=Button(text='more', value=1, default=0), m=True):\n"
                         "    global count; count += n; print(count)")  # fmt: skip
        id = made["new_interact_id"]
        texts = [self.text(self.update(id, values)) for values in ({"n": True}, {"m": False}, {"n": True})]
        self.assertEqual(texts, ["1\n", "1\n", "2\n"])

    def test_a_fork_that_comes_back_says_nothing(self):
        made = self.made("import os\n@interact\ndef f(go=False):\n    if go and os.fork() == 0: print('child')\n    else: print('parent')")
        said = self.update(made["new_interact_id"], {"go": True})
        self.assertEqual(self.reply(said)["status"], "ok")
        self.assertIn("parent\n", self.text(said))


if __name__ == "__main__":
    unittest.main()

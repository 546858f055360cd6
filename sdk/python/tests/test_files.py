"""What is new in the folder of a session."""

import os
import tempfile
import unittest
from pathlib import Path

from runner.kernel import files
from runner.kernel.files import NewFiles


class NewFilesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.new = NewFiles(folder.name)

    def write(self, path, text="x"):
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return place

    def test_each_is_told_once(self):
        self.write("b.txt")
        self.write("below/a.txt")
        self.assertEqual(self.new.take(), (["b.txt", "below/a.txt"], []))
        self.assertEqual(self.new.take(), ([], []))

    def test_one_that_changed_is_told_again(self):
        place = self.write("a.txt")
        self.new.take()
        os.utime(place, (place.stat().st_atime, place.stat().st_mtime + 1))
        self.assertEqual(self.new.take()[0], ["a.txt"])
        # Within one tick of the clock, its size tells.
        when = place.stat().st_mtime_ns
        place.write_text("longer")
        os.utime(place, ns=(when, when))
        self.assertEqual(self.new.take()[0], ["a.txt"])

    def test_one_that_is_gone_is_not_told(self):
        place = self.write("a.txt")
        self.new.take()
        place.unlink()
        self.assertEqual(self.new.take()[0], [])
        os.utime(self.write("a.txt"), (2**33, 2**33))
        self.assertEqual(self.new.take()[0], ["a.txt"])

    def test_what_a_cell_says_is_known_is_known(self):
        self.new.sent["a.txt"] = float("inf")
        self.write("a.txt")
        self.assertEqual(self.new.take()[0], [])

    def test_names_are_told_as_they_are(self):
        names = ["ä ö.txt", "a b/c d.txt", "100%.csv", "quote'\".txt", "日本.txt", "new\nline"]
        for name in names:
            self.write(name)
        self.assertEqual(self.new.take()[0], sorted(names))

    def test_what_is_no_file_or_hidden_is_left_out(self):
        self.write(".hidden")
        self.write(".cache/x")
        self.write("__pycache__/x.pyc")
        os.mkfifo(self.folder / "pipe")
        os.symlink("nowhere", self.folder / "broken")
        os.symlink(self.folder, self.folder / "round")
        with open(os.path.join(os.fsencode(self.folder), b"\xff"), "w"):
            pass
        self.assertEqual(self.new.take(), ([], []))

    def test_what_others_draw_is_a_picture(self):
        for name in ("Rplot001.png", "octave.png", "other.png", "below/Rplot001.png"):
            self.write(name)
        self.assertEqual(self.new.take(), (["below/Rplot001.png", "other.png"], ["Rplot001.png", "octave.png"]))

    def test_ten_thousand_at_a_time(self):
        for number in range(files.MOST + 5):
            (self.folder / f"{number:05}").touch()
        self.assertEqual(len(self.new.take()[0]), files.MOST)
        self.assertEqual(len(self.new.take()[0]), 5)
        self.assertEqual(self.new.take()[0], [])

    def test_a_folder_that_is_gone_has_nothing(self):
        self.assertEqual(NewFiles(str(self.folder / "gone")).take(), ([], []))

    def test_links_are_urls(self):
        place = self.write("below/a'b ü?.png")
        link = self.new.link("below/a'b ü?.png")
        self.assertEqual(link, f"below/a%27b%20%C3%BC%3F.png?m={place.stat().st_mtime}")
        self.assertEqual(self.new.take(), ([], []))

    def test_there_are_no_links_out(self):
        for path in ("../x", "/etc/passwd", "below/../../x"):
            with self.assertRaisesRegex(ValueError, "not in the folder"):
                self.new.link(path)
        with self.assertRaises(FileNotFoundError):
            self.new.link("nothing")


if __name__ == "__main__":
    unittest.main()

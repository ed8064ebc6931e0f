#!/usr/bin/env python3
"""The unit of deploy/systemd, against what the broker says of itself: its exit codes, its options, how long it takes to stop."""

import configparser
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy/systemd/trireme-broker.service"


def unit():
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return parser


class Unit(unittest.TestCase):
    def setUp(self):
        self.service = unit()["Service"]
        self.assertEqual(unit()["Install"]["WantedBy"], "multi-user.target")

    def test_what_a_start_cannot_mend_is_not_started_again(self):
        codes = re.findall(r"kExit\w+ = (\d+)", (ROOT / "broker/ops/exit_code.h").read_text(encoding="utf-8"))
        self.assertGreaterEqual(len(codes), 3)
        self.assertEqual(self.service["RestartPreventExitStatus"].split(), sorted(codes, key=int))
        self.assertEqual(self.service["Restart"], "on-failure")

    def test_a_clean_stop_has_the_time_that_it_may_take(self):
        header = (ROOT / "broker/ops/config.h").read_text(encoding="utf-8")
        hand_over_ms = int(re.search(r"hand_over\{([\d']+)\}", header).group(1).replace("'", ""))
        seconds = int(self.service["TimeoutStopSec"].removesuffix("s"))
        self.assertGreaterEqual(seconds * 1000, hand_over_ms + 10_000)
        self.assertEqual(self.service["KillSignal"], "SIGTERM")

    def test_it_is_started_with_options_that_there_are(self):
        program, *options = self.service["ExecStart"].split()
        self.assertEqual(program, "/usr/bin/trireme-broker")
        self.assertEqual(options, ["--config", "/etc/trireme/trireme.toml"])
        self.assertIn('"--config"', (ROOT / "broker/ops/config.cc").read_text(encoding="utf-8"))


if __name__ == "__main__":
    unittest.main()

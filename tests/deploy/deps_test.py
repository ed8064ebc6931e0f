#!/usr/bin/env python3
"""deploy/deps.sh calls apt only when a package is missing, and then for that package only."""

import os
import stat
import subprocess
import tempfile
import unittest

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy", "deps.sh")


class Deps(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.calls = os.path.join(self.folder.name, "calls")
        self.program("apt-get", f'echo "apt-get $DEBIAN_FRONTEND $*" >>{self.calls}; exit ${{APT_FAILS:-0}}')
        self.program("sudo", f'echo "sudo" >>{self.calls}; exec "$@"')
        self.user(0)

    def program(self, name, text):
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/bash\n" + text + "\n")
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)

    def user(self, number):
        self.program("id", f"echo {number}")

    def installed(self, packages):
        """As dpkg-query answers: one line for each that it knows, and a failure when it does not know all."""
        self.program("dpkg-query", "\n".join([f"echo 'installed {name}'" for name in packages] + ["echo 'config-files mold'", "exit 1"]))

    def run_script(self, *arguments, **environment):
        return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False, timeout=60,
                              env={"PATH": f"{self.folder.name}:/usr/bin:/bin", **environment})

    def called(self):
        if not os.path.exists(self.calls):
            return []
        with open(self.calls, encoding="utf-8") as calls:
            return calls.read().splitlines()

    def all_packages(self):
        return self.run_script("--list").stdout.split()

    def test_nothing_is_called_when_nothing_is_missing(self):
        packages = self.all_packages()
        self.assertGreater(len(packages), 20)
        self.assertEqual(len(set(packages)), len(packages))
        self.installed(packages)
        done = self.run_script()
        self.assertEqual((done.returncode, done.stdout, done.stderr, self.called()), (0, "", "", []))
        self.assertEqual(self.run_script("--check").returncode, 0)

    def test_what_is_missing_is_installed_and_nothing_else(self):
        # Of mold the configuration is left, which is not "installed".
        self.installed([name for name in self.all_packages() if name not in ("mold", "cmake")])
        self.assertEqual(self.run_script("--check").stdout, "missing: cmake mold\n")
        self.assertEqual(self.called(), [])
        self.assertEqual(self.run_script().returncode, 0)
        update, install = self.called()
        self.assertRegex(update, "^apt-get noninteractive .*update$")
        self.assertRegex(install, "^apt-get noninteractive .*install -y --no-install-recommends cmake mold$")

    def test_without_being_root(self):
        self.installed([name for name in self.all_packages() if name != "mold"])
        self.user(1000)
        self.assertEqual(self.run_script().returncode, 0)
        self.assertEqual([call.split()[0] for call in self.called()], ["sudo", "apt-get", "sudo", "apt-get"])
        self.assertTrue(all("noninteractive" in call for call in self.called() if call != "sudo"))

    def test_a_failure_is_a_failure(self):
        self.installed([])
        done = self.run_script(APT_FAILS="100")
        self.assertEqual(done.returncode, 1)
        self.assertIn("failed", done.stderr)
        self.assertEqual(self.run_script("--nonsense").returncode, 2)


if __name__ == "__main__":
    unittest.main()

"""What `make package` wrote into dist: `make package-check`."""

import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
BUILT = ROOT / "target/lambda"
FUNCTIONS = ["copy-layers", "ensure-repo", "find-differences", "put-manifest", "report", "report-differences", "resolve-image"]
# The triple, and the number that ELF has for the processor.
ARCHITECTURES = {"x86_64": ("x86_64-unknown-linux-gnu", 62), "arm64": ("aarch64-unknown-linux-gnu", 183)}
ENTRIES = ["bootstrap", "NOTICE", "sbom.cdx.json"]

(MODULE,) = DIST.glob("ecr-replicator-module-*.zip")


def run(*command, cwd=ROOT, **options):
    result = subprocess.run(command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    assert result.returncode == 0, f"{command}: {result.stdout}"
    return result.stdout


def crates(architecture, function):
    """What cargo links into a function, without the workspace's own."""
    edges = ("--edges", "normal", "--target", ARCHITECTURES[architecture][0])
    tree = run("cargo", "tree", "--locked", "--offline", "--package", function, *edges, "--prefix", "none", "--format", "{p}")
    lines = {line.removesuffix(" (*)") for line in tree.splitlines() if line}
    return {tuple(line.split()[:2]) for line in lines if "(/" not in line}


def of_each_package(test):
    @functools.wraps(test)
    def tests(self):
        for architecture in ARCHITECTURES:
            for function in FUNCTIONS:
                with self.subTest(architecture=architecture, function=function):
                    with zipfile.ZipFile(DIST / architecture / function / "bootstrap.zip") as package:
                        test(self, architecture, function, package)

    return tests


class Packages(unittest.TestCase):
    @of_each_package
    def test_a_package_has_the_program_and_its_papers(self, architecture, function, package):
        entries = package.infolist()
        self.assertEqual([entry.filename for entry in entries], ENTRIES)
        self.assertEqual([oct(entry.external_attr >> 16) for entry in entries], ["0o100755", "0o100644", "0o100644"])
        self.assertEqual({entry.date_time for entry in entries}, {(1980, 1, 1, 0, 0, 0)})
        header = package.read("bootstrap")[:20]
        self.assertEqual(header[:4], b"\x7fELF")
        self.assertEqual(int.from_bytes(header[18:20], "little"), ARCHITECTURES[architecture][1])

    @of_each_package
    def test_no_program_tells_where_it_was_built(self, architecture, function, package):
        home = pathlib.Path.home()
        places = {ROOT, home, pathlib.Path(os.environ.get("CARGO_HOME", home / ".cargo"))}
        program = package.read("bootstrap")
        self.assertIn(b"/cargo/registry/src/", program)
        self.assertEqual([place for place in places if bytes(place) + b"/" in program], [])

    @of_each_package
    def test_a_package_is_written_with_the_same_bytes_again(self, architecture, function, package):
        with tempfile.TemporaryDirectory() as directory:
            again = pathlib.Path(directory) / "bootstrap.zip"
            # Other times and another umask than the first time.
            for entry in ENTRIES:
                copy = pathlib.Path(directory) / entry
                shutil.copyfile(BUILT / architecture / function / entry, copy)
                copy.chmod(0o700 if entry == "bootstrap" else 0o600)
            run("python", "packaging/archive.py", again, *(f"{entry}={directory}/{entry}" for entry in ENTRIES))
            self.assertEqual(again.read_bytes(), (DIST / architecture / function / "bootstrap.zip").read_bytes())

    @of_each_package
    def test_the_sbom_lists_what_cargo_links(self, architecture, function, package):
        rust = re.search(r'channel = "(.*)"', (ROOT / "rust-toolchain.toml").read_text())[1]
        sbom = json.loads(package.read("sbom.cdx.json"))
        self.assertEqual((sbom["bomFormat"], sbom["specVersion"]), ("CycloneDX", "1.6"))
        self.assertEqual(sbom["metadata"]["component"]["name"], function)
        triple = {"name": "cdx:rustc:sbom:target:triple", "value": ARCHITECTURES[architecture][0]}
        self.assertEqual(sbom["metadata"]["properties"], [triple])
        # What a build writes anew each time.
        self.assertNotIn("serialNumber", sbom)
        self.assertNotIn("timestamp", sbom["metadata"])
        listed = {(component["name"], f"v{component['version']}") for component in sbom["components"]}
        self.assertEqual(listed, crates(architecture, function) | {("rust-std", f"v{rust}")})
        for component in sbom["components"]:
            self.assertRegex(component["purl"], r"^pkg:(cargo|generic)/[a-zA-Z0-9_-]+@[0-9a-z.-]+$")
            self.assertTrue(component["licenses"][0]["expression"])

    @of_each_package
    def test_the_notice_has_a_licence_for_each_crate(self, architecture, function, package):
        notice = package.read("NOTICE").decode()
        named = set(re.findall(r"^  (\S+) (\d\S*)(?: https?://\S+)?$", notice, re.MULTILINE))
        self.assertEqual(named, {(name, version[1:]) for name, version in crates(architecture, function)})
        # Of what crates have taken in from elsewhere, as packaging/about.toml says.
        self.assertIn("Stephan Mueller", notice)
        self.assertIn("Mathijs van de Nes", notice)

    def test_the_checksums_are_of_all_that_there_is(self):
        files = {str(file.relative_to(DIST)) for file in DIST.rglob("*") if file.is_file()} - {"SHA256SUMS"}
        wanted = {f"{hashlib.sha256((DIST / file).read_bytes()).hexdigest()}  {file}" for file in files}
        self.assertEqual(set((DIST / "SHA256SUMS").read_text().splitlines()), wanted)
        run("sha256sum", "--check", "--quiet", "SHA256SUMS", cwd=DIST)

    def test_the_state_machines_are_those_of_the_module(self):
        with zipfile.ZipFile(MODULE) as module:
            for file in ROOT.glob("statemachine/*.asl.json"):
                self.assertEqual((DIST / "statemachine" / file.name).read_bytes(), file.read_bytes())
                self.assertEqual(module.read(f"statemachine/{file.name}"), file.read_bytes())

    def test_the_module_is_whole_without_the_repository(self):
        with tempfile.TemporaryDirectory() as directory:
            directory = pathlib.Path(directory)
            with zipfile.ZipFile(MODULE) as module:
                module.extractall(directory)
                scripts = [entry for entry in module.infolist() if entry.filename.endswith(".sh")]
            self.assertTrue(all(entry.external_attr >> 16 & 0o100 for entry in scripts))
            terraform = directory / "terraform"
            tests = terraform / "tests"
            shutil.copytree(ROOT / "terraform/tests/mocks", tests / "mocks")
            shutil.copy(ROOT / "tests/packages/module.tftest.hcl", tests)
            environment = os.environ | {"TF_DATA_DIR": str(directory / "data")}
            wrapper = [str(ROOT / "tests/local/bin/terraform"), f"-chdir={terraform}"]
            run(*wrapper, "init", "-backend=false", "-input=false", "-lockfile=readonly", env=environment)
            run(*wrapper, "validate", env=environment)
            run(*wrapper, "test", f'-var=dist="{DIST}"', env=environment)


if __name__ == "__main__":
    unittest.main()

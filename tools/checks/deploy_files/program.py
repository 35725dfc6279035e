"""What the program knows: its options, their defaults, and the variables beside them."""

import re
import subprocess
import tomllib

from steps import expect

# Beside the options' own: docs/guide.md.
VARIABLES = {"VGGT_LOG", "VGGT_CONFIG_FILE", "VGGT_NAME_SERVER", "VGGT_CPU"}
# A job that is told to stop has five seconds more (LAST_STEP in src/jobs/mod.rs); its row is written and its files are removed after that.
MARGIN_S = 15
TCP_PORT = "4567"


class Program:
    def __init__(self, path, root):
        self.path, self.root = path, root
        self.version = tomllib.loads((root / "Cargo.toml").read_text())["workspace"]["package"]["version"]
        documents = [root / "docs" / name for name in ("several-machines.md", "weights.md", "service.md")]
        self.documented = "\n".join(path.read_text() for path in documents)
        self.helps = {}

    def run(self, *args):
        return subprocess.run([self.path, *args], capture_output=True, text=True, env={}, cwd="/", check=False, timeout=60)

    def help(self, command):
        if command not in self.helps:
            self.helps[command] = self.run(command, "--help").stdout
        return self.helps[command]

    def accepts(self, where, args):
        """The help is asked for last: an option that does not exist, or a value that it does not take, is found before it is printed."""
        args = list(map(str, args))
        done = self.run(*args, "--help")
        expect(done.returncode == 0, f"{where}: vggt {' '.join(args)}: {done.stderr.strip()}")

    def default(self, command, option):
        found = re.search(rf"^ +--{option} <[^\n]*\n(?:(?! +--).*\n)*?.*\[default: ([^\]]*)\]", self.help(command), re.MULTILINE)
        expect(found, f"vggt {command} --help has no default of --{option}")
        return found[1]

    def value(self, args, option):
        """The value of an option on a command line, or its default."""
        for place, arg in enumerate(args):
            if arg == f"--{option}":
                return args[place + 1]
            if arg.startswith(f"--{option}="):
                return arg.partition("=")[2]
        return self.default(args[0], option)

    def knows(self, where, command, variables):
        """Each variable is one that somebody reads, with a value that it may have."""
        for name, value in variables.items():
            if name.startswith("VGGT_") and name not in VARIABLES:
                option = "--" + name.removeprefix("VGGT_").replace("_", "-").lower()
                found = re.search(rf"^ +{option}( <|$)", self.help(command), re.MULTILINE)
                expect(found, f"{where}: {name} is not an option of vggt {command}")
                if found[1]:
                    self.accepts(f"{where}: {name}", [command, f"{option}={value}"])
            elif name not in VARIABLES:
                expect(f"`{name}`" in self.documented, f"{where}: {name} is in no table of the documentation")

    def ports(self, args):
        """The ports that a command line listens on."""
        ports = {TCP_PORT} if args[0] == "serve" else set()
        http = [arg.partition("=")[2] or args[place + 1] for place, arg in enumerate(args) if re.match(r"--http(=|$)", arg)]
        return ports | {address.rpartition(":")[2] for address in http}

    def has_time(self, where, args, seconds):
        """The process has longer than --grace until it is killed."""
        grace = int(self.value(args, "grace"))
        expect(seconds >= grace + MARGIN_S, f"{where}: {seconds} s until it is killed, and --grace is {grace}: {MARGIN_S} more are needed")

"""The options of a command, read from the click command that parses them."""

from __future__ import annotations

from dataclasses import dataclass

import click

from nano_init.cli.init_options import nano_init_command
from nano_init.cli.run_options import nano_run

__all__ = ["COMMANDS", "OptionEntry", "command_markdown", "epilog_blocks", "option_entries"]

COMMANDS = {"nano-run": nano_run, "nano-init": nano_init_command}


@dataclass(frozen=True)
class OptionEntry:
    """One option as a reader looks it up.

    Args:
        names: its names with their hyphens, the short one first.
        value: what its value is called, or "" for a flag.
        help: what it does.
        default: the value that it has if it is left out, or "".
        variable: the environment variable that stands for it, or "".
    """

    names: tuple[str, ...]
    value: str
    help: str
    default: str
    variable: str

    @property
    def usage(self) -> str:
        """The names and the value as they are written on a command line."""
        return " ".join(filter(None, (", ".join(self.names), self.value)))


def option_entries(command: click.Command) -> list[OptionEntry]:
    """Return the options of a command that its help text shows, in its order."""
    context = click.Context(command)
    parameters = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    return [_entry(option, context) for option in parameters if not option.hidden]


def _entry(option: click.Option, context: click.Context) -> OptionEntry:
    value = "" if option.is_flag else option.make_metavar(context)
    default = str(option.default) if option.show_default and option.default is not None else ""
    variable = option.envvar if isinstance(option.envvar, str) else ""
    names = tuple(sorted(option.opts, key=len))
    return OptionEntry(names, value, option.help or "", default, variable)


def epilog_blocks(command: click.Command) -> list[tuple[bool, str]]:
    """Return the paragraphs after the options, each with whether its lines must stay as they are.

    click marks such a paragraph by a backspace character on a line of its own.
    """
    blocks = []
    for paragraph in (command.epilog or "").split("\n\n"):
        text = paragraph.strip("\n")
        is_verbatim = text.startswith("\b")
        text = text.removeprefix("\b").strip("\n")
        if text:
            blocks.append((is_verbatim, text if is_verbatim else " ".join(text.split())))
    return blocks


def command_markdown(name: str) -> str:
    """Return the reference of a command: usage, each option under a heading, examples."""
    command = COMMANDS[name]
    context = click.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts = [f"```\n{usage}\n```", " ".join((command.help or "").split()), "## Options"]
    parts += [_option_markdown(entry) for entry in option_entries(command)]
    parts.append("## Examples and notes")
    for is_verbatim, text in epilog_blocks(command):
        parts.append(f"```\n{text}\n```" if is_verbatim else text)
    return "\n\n".join(parts) + "\n"


def _option_markdown(entry: OptionEntry) -> str:
    facts = []
    if entry.default:
        facts.append(f"Default: `{entry.default}`.")
    if entry.variable:
        facts.append(f"Variable: `{entry.variable}`.")
    text = entry.help.replace("*", r"\*")
    return "\n\n".join(filter(None, (f"### `{entry.usage}`", text, " ".join(facts))))

"""Read the text of a configuration, and tell where it is wrong."""

import contextlib
import difflib
from collections import deque

import yaml
from pydantic import BaseModel, ValidationError

__all__ = [
    "describe_problems",
    "find_problems",
    "get_field_model",
    "load_yaml",
    "prefix_errors",
]

MAX_DEPTH = 30
"""Levels of a text, many more than a configuration has."""


def load_yaml(text):
    """Load YAML text.

    Parameters
    ----------
    text : str
        Text.

    Returns
    -------
    node : `yaml.Node`
        Node, which knows the lines. None for no text.
    data : object
        What the text says.

    Raises
    ------
    yaml.YAMLError
        If the text is not valid, has a key twice, aliases, or too many levels.
    """
    depth = 0
    # what is small as a text may have no end as data
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        problem = None
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            problem = f"the alias *{event.anchor}: write the value itself"
        elif depth > MAX_DEPTH:
            problem = f"there are more than {MAX_DEPTH} levels"
        if problem is not None:
            mark = event.start_mark
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        _check_keys(node)
        _keep_off(node)
        return node, loader.construct_document(node)
    finally:
        loader.dispose()


def _check_keys(node):
    """Raise an error for a key that is there twice, of which YAML takes the last."""
    if isinstance(node, yaml.ScalarNode):
        return
    names = set()
    for child in node.value:
        if isinstance(node, yaml.MappingNode):
            name, child = child
            # the value of a key that is no scalar is a list
            if str(name.value) in names:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {name.value!r} is there twice",
                    problem_mark=name.start_mark,
                )
            names.add(str(name.value))
        _check_keys(child)


def _keep_off(node, sections=("mimic", "off")):
    """Let ``off`` be a word in these sections, and not False as in YAML 1.1."""
    if not sections or not isinstance(node, yaml.MappingNode):
        return
    for name, section in node.value:
        if name.value == sections[0] and isinstance(section, yaml.MappingNode):
            for scalar in (scalar for pair in section.value for scalar in pair):
                if scalar.value == "off":
                    scalar.tag = yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG
            _keep_off(section, sections[1:])


def describe_problems(problems, source, node=None):
    """Describe what is wrong, with the lines and keys.

    Parameters
    ----------
    problems : list of tuple
        Keys, and what is wrong with the value.
    source : str
        Where the data come from.
    node : `yaml.Node`, optional
        Node of the data, if they come from a file. Default is None.

    Returns
    -------
    text : str
        One line for each problem.
    """
    lines = []
    for keys, message in problems:
        line = "" if node is None else f" line {_find_line(node, keys)}:"
        lines.append(f"{source},{line} {'.'.join(map(str, keys))}: {message}")
    return "\n".join(lines)


def find_problems(model, data, error):
    """Find what is wrong with data that a model does not take.

    Parameters
    ----------
    model : type
        Model (`pydantic.BaseModel`).
    data : dict
        Data with which the model cannot be made.
    error : Exception
        What it raises.

    Returns
    -------
    problems : list of tuple
        Keys, and what is wrong with the value.
    """
    if not isinstance(error, ValidationError):
        return [(_find_raising_key(model, data), str(error))]
    problems = []
    for problem in error.errors():
        # between the keys, pydantic puts names of types such as "list[int]"
        keys = [_ for _ in problem["loc"] if str(_).replace("_", "").isalnum()]
        if problem["type"] == "extra_forbidden":
            section = model
            for name in keys[:-1]:
                section = get_field_model(section, name)
            options = list(section.model_fields)
            close = difflib.get_close_matches(str(keys[-1]), options, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            text = f"unknown key.{hint} Choose from {options}."
        else:
            text, value = problem["msg"].removeprefix("Value error, "), problem["input"]
            name, _, message = text.partition(" ")
            # of a dict that is no section, an error begins with the key
            if isinstance(value, dict) and name in value:
                keys, text = [*keys, name], message
            if ", got " not in text:
                text = f"{text}, got {value!r}"
        problems.append((keys, text))
    return problems


def _find_raising_key(model, data):
    """Find the key that makes the model raise something else than pydantic's error."""
    for name, value in data.items():
        try:
            model(**{name: value})
        except ValidationError:
            continue
        except Exception:
            field_model = get_field_model(model, name)
            if field_model is not None and isinstance(value, dict):
                return [name, *_find_raising_key(field_model, value)]
            return [name]
    return []


def get_field_model(model, name):
    """Find the model of a section.

    Parameters
    ----------
    model : type
        Model (`pydantic.BaseModel`).
    name : str
        Key.

    Returns
    -------
    section : type or None
        Model of the key, None for a value.
    """
    field = model.model_fields.get(name)
    if field is None:
        return None
    candidates = deque([field.annotation])
    while candidates:
        candidate = candidates.popleft()
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
        candidates.extend(getattr(candidate, "__args__", ()))
    return None


def _find_line(node, keys):
    """Line of a key in the file, or of the deepest section of it that is there."""
    line = 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            pairs = {name.value: (name, value) for name, value in node.value}
            if str(key) not in pairs:
                break
            name, node = pairs[str(key)]
            line = name.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            node = node.value[key]
            line = node.start_mark.line + 1
    return line


@contextlib.contextmanager
def prefix_errors(key):
    """Put a key of the configuration, or a file, before the message of an error.

    Parameters
    ----------
    key : str or `~pathlib.Path`
        Key, such as "mimic.off.query", or file.
    """
    try:
        yield
    except (KeyError, OSError, TypeError, ValueError) as error:
        message = error.args[0] if isinstance(error, KeyError) else error
        raise ValueError(f"{key}: {message}") from error

"""What commands say of what they have written."""

import click

__all__ = ["tell"]


def tell(text):
    """Print a text, if the command is not to be quiet.

    Parameters
    ----------
    text : str
        Text, of what is also in the files.
    """
    context = click.get_current_context(silent=True)
    if context is None or not context.find_root().params.get("quiet"):
        click.echo(text)

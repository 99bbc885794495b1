"""MkDocs hooks of this site: run the pages' Python, and keep the pages self-contained.

Every block of Python on a page runs while the site is built, in the order of the page and in one
namespace, as in a notebook. What it prints, and the figure that its last line evaluates to, follow
it. A block that fails, fails the build.
"""

import ast
import base64
import contextlib
import io
import logging
import os
import re
import traceback

from mkdocs.exceptions import PluginError

_BLOCK = re.compile(r"^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```$", re.M | re.S)
_REMOTE_ASSET = re.compile(
    r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"?(?:https?:)?//[^>]*>"
)
# Pages with code for several processes, other frameworks or other machines.
_NOT_RUN = {"benchmarks.md", "models.md", "scaling.md", "changelog.md", "contributing.md"}


def on_startup(**kwargs):
    """Prepare the process before a block imports JAX or Matplotlib."""
    os.environ["MPLBACKEND"] = "Agg"
    os.environ["TQDM_DISABLE"] = "1"


def on_page_markdown(markdown, page, **kwargs):
    """Run the page's Python."""
    if page.file.src_uri in _NOT_RUN:
        return markdown
    namespace = {"__name__": "__main__"}

    def run(block):
        indent = block["indent"]
        code = "".join(line.removeprefix(indent) for line in block["code"].splitlines(True))
        line = markdown.count("\n", 0, block.start("code"))
        text, value = _execute("\n" * line + code, page.file.src_uri, namespace)
        result = block[0]
        if text.strip():
            lines = ["", "```{.text .output}", *text.strip("\n").splitlines(), "```"]
            result += "".join(f"\n{indent}{line}".rstrip(" ") for line in lines)
        if hasattr(value, "savefig"):
            result += f"\n\n{_image(value)}\n"  # not indented, so outside a folded box
        return result

    return _BLOCK.sub(run, markdown)


def _execute(code, filename, namespace):
    """Return what `code` prints, and the value of its last line if that is an expression."""
    printed = io.StringIO()
    try:
        tree = ast.parse(code, filename)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, filename, "exec"), namespace)
            if last is None:
                return printed.getvalue(), None
            value = eval(compile(ast.Expression(last.value), filename, "eval"), namespace)
        return printed.getvalue(), value
    except Exception as error:
        raise PluginError(f"{filename}: a block failed.\n{traceback.format_exc()}") from error


def _image(fig):
    """Return HTML that holds the figure itself, so that a page needs no other files."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    alt = fig.get_suptitle() or "; ".join(filter(None, (ax.get_title() for ax in fig.axes)))
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{alt}" src="data:image/png;base64,{data}">'


def on_post_page(output, page, **kwargs):
    """Warn where a page would make a reader's browser fetch something from another host."""
    for tag in _REMOTE_ASSET.findall(output):
        logging.getLogger("mkdocs.hooks").warning("%s loads %s", page.file.src_uri, tag)

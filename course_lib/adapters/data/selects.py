"""Reading a statement that a model wrote: exactly one SELECT over allowed tables, or a refusal that says why.

Main path: one_select(sql, tables) -> the statement, written anew from what was understood.
Source: sqlglot 30's PostgreSQL dialect. Every kind of node must be on a list below; what is not, is refused.
What is sent is generated from the tree that was checked. This is the first of two lines: the model's role has
no right to anything that is refused here.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

from course_lib.adapters.tools.limits import ToolRefused

LONGEST = 2_000
"""Characters of a statement; deeper nesting than fits in them is no honest question."""

_CLAUSES = (
    *(exp.Select, exp.From, exp.Join, exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Limit),
    *(exp.Offset, exp.Distinct, exp.Tuple, exp.Subquery, exp.With, exp.CTE, exp.TableAlias, exp.Table),
    *(exp.Union, exp.Intersect, exp.Except, exp.Exists, exp.Alias, exp.Column, exp.Identifier, exp.Star),
)
_VALUES = (
    *(exp.Literal, exp.Boolean, exp.Null, exp.Paren, exp.Neg, exp.Interval, exp.Var, exp.Cast, exp.DataType),
    *(exp.DataTypeParam, exp.Case, exp.If, exp.CurrentDate, exp.CurrentTimestamp, exp.Extract),
    *(exp.JSONExtract, exp.JSONExtractScalar, exp.JSONPath, exp.JSONPathRoot, exp.JSONPathKey),
    *(exp.JSONPathSubscript,),
)
_OPERATORS = (
    *(exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like, exp.ILike),
    *(exp.In, exp.Between, exp.Is, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Add, exp.Sub, exp.Mul, exp.Div),
    *(exp.Mod, exp.DPipe),
)
_FUNCTIONS = (
    *(exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max, exp.Filter, exp.Coalesce, exp.Nullif, exp.Greatest),
    *(exp.Least, exp.Abs, exp.Round, exp.Floor, exp.Ceil, exp.Lower, exp.Upper, exp.Length, exp.Trim),
    *(exp.Left, exp.Right, exp.Substring, exp.StrPosition, exp.SplitPart, exp.TimestampTrunc, exp.TimeToStr),
    exp.Concat,
)
_ALLOWED = frozenset((*_CLAUSES, *_VALUES, *_OPERATORS, *_FUNCTIONS))
_CALLS = frozenset({"jsonb_array_length"})  # functions that sqlglot has no class for
_TYPES = frozenset(
    {"TEXT", "VARCHAR", "INT", "BIGINT", "DECIMAL", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMP", "TIMESTAMPTZ"}
)
_MOST_TABLES, _MOST_COPIES, _MOST_AS_NUMBER, _MOST_PRODUCTS = 8, 10_000, 100, 16
_LONG_NUMBER = re.compile(r"\d{31}")
_PART = "part_"
_ODD = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\\$\ud800-\udfff]")


def one_select(sql: str, tables: Collection[str]) -> str:
    """Return `sql`, checked and written anew, if it is one SELECT that reads nothing but `tables`.

    Raises:
        ToolRefused: it is anything else; the message is one line that a model can act on.

    >>> one_select("select ID from orders where total_cents > 100;", {"orders"})
    'SELECT "id" FROM "public"."orders" WHERE "total_cents" > 100'
    """
    tree = _parsed(sql)
    _check_nodes(tree)
    _check_size(tree)
    _settle_names(tree, tables)
    written = _written(tree)
    if _written(_parsed(written)) != written:  # what reads otherwise the second time could mean anything
        raise ToolRefused("the statement cannot be written without doubt; say it in simpler words")
    return written


def _written(tree: exp.Expr) -> str:
    return tree.sql(dialect="postgres", identify=True, comments=False)


def _parsed(sql: str) -> exp.Expr:
    if len(sql) > LONGEST:
        raise ToolRefused(f"the statement has {len(sql)} characters, and {LONGEST} are allowed; ask for less")
    if odd := _ODD.search(sql):
        raise ToolRefused(f"the character {odd.group()!r} is not allowed; write texts in plain single quotes")
    try:
        tokens = sqlglot.tokenize(sql, read="postgres")
        if any(token.comments for token in tokens):
            raise ToolRefused("comments are not allowed; send the statement alone")
        if not tokens or tokens[0].text.upper() not in {"SELECT", "WITH", "("}:
            raise ToolRefused("only SELECT is allowed: this tool reads and changes nothing")
        trees = [tree for tree in sqlglot.parse(sql, dialect="postgres") if tree is not None]
        if len(trees) != 1:
            raise ToolRefused(f"{len(trees)} statements were sent; send exactly one SELECT")
        return normalize_identifiers(trees[0], dialect="postgres")
    except (SqlglotError, RecursionError) as error:
        why = str(error).splitlines()[0] if isinstance(error, SqlglotError) else "it is nested too deep"
        raise ToolRefused(f"this is not SQL that can be read: {_plain(why)}") from None


def _check_nodes(tree: exp.Expr) -> None:
    if not isinstance(tree, exp.Select | exp.SetOperation | exp.Subquery):
        raise ToolRefused("only SELECT is allowed: this tool reads and changes nothing")
    for node in tree.walk():
        if isinstance(node, exp.Anonymous):
            if node.name.lower() not in _CALLS:
                raise ToolRefused(f"the function {_plain(node.name)} is not allowed")
        elif type(node) not in _ALLOWED:
            kind = "function" if isinstance(node, exp.Func) else "form"
            raise ToolRefused(f"the {kind} {_plain(node.sql(dialect='postgres'))} is not allowed")
        elif isinstance(node, exp.DataType) and (
            not isinstance(node.this, exp.DType) or node.this.name not in _TYPES
        ):
            raise ToolRefused(f"the type {_plain(node.sql(dialect='postgres'))} is not allowed")
        elif isinstance(node, exp.With) and node.args.get("recursive"):
            raise ToolRefused("WITH RECURSIVE is not allowed")


def _check_size(tree: exp.Expr) -> None:
    """Refuse what could grow in the server without end, where no time limit is looked at.

    The server puts SELECTs into each other, so a value stands in the result as often as the product of their
    numbers of columns says: ten levels of x || x || x || x are a million. Numbers grow by multiplying.
    """
    columns = math.prod(_by_select(tree, exp.Column, exp.Star))
    products = math.prod(1 + count for count in _by_select(tree, exp.Mul))
    is_text_as_number = tree.find(exp.Mul) and tree.find(exp.DPipe, exp.Concat, exp.TimeToStr)
    if columns > (_MOST_AS_NUMBER if is_text_as_number else _MOST_COPIES) or products > _MOST_PRODUCTS:
        raise ToolRefused("its SELECTs within each other use too many columns or products; ask in steps")
    if len(list(tree.find_all(exp.Table))) > _MOST_TABLES:
        raise ToolRefused(f"at most {_MOST_TABLES} tables may be read at once; ask for less")
    if any(_LONG_NUMBER.search(literal.name) for literal in tree.find_all(exp.Literal)):
        raise ToolRefused("a number has more than 30 digits; write a shorter one")


def _by_select(tree: exp.Expr, *kinds: type[exp.Expr]) -> Collection[int]:
    """Return how many nodes of these kinds stand in each SELECT itself, not in one within it."""
    return Counter(id(node.find_ancestor(exp.Select)) for node in tree.find_all(*kinds)).values()


def _settle_names(tree: exp.Expr, tables: Collection[str]) -> None:
    """Check all names, and write each table so that it can mean nothing else, wherever it stands.

    A WITH part gets a name that no table has: outside its scope it is then unknown, not a table of its name.
    """
    for name in (node.name for node in tree.find_all(exp.Identifier, exp.Var)):
        if not name.isprintable() or set(name) & set('";'):  # such as some table may have, but here none has
            raise ToolRefused(f"the name {_plain(name)} is not allowed; use the names of describe_tables")
    parts = {cte.alias: cte for cte in tree.find_all(exp.CTE)}
    for name, part in parts.items():
        if name in tables:
            raise ToolRefused(f"a WITH part must not be called {name}, as a table is; give it another name")
        part.args["alias"].set("this", exp.to_identifier(_PART + name))
    for table in list(tree.find_all(exp.Table)):
        name = table.name if isinstance(table.this, exp.Identifier) and not table.args.get("catalog") else ""
        if name in tables and table.db in ("", "public"):
            table.set("db", exp.to_identifier("public"))
        elif name in parts and not table.db:
            table.set("this", exp.to_identifier(_PART + name))
            table.set("alias", table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(name)))
        else:
            shown, known = _plain(table.sql(dialect="postgres")), ", ".join(sorted(tables))
            raise ToolRefused(f"the table {shown} is not allowed; there are: {known}")


def _plain(words: str) -> str:
    """Return words for an error: one line, short, without what a terminal would act on."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in words).split())
    return line if len(line) <= 80 else f"{line[:77]}..."

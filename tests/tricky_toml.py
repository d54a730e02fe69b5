"""TOML texts whose keys are hard to find, each with the line of every key."""

TRICKY = {
    "tables and comments": (
        '# a = 0\n\nname = "x" # [no]\n[a] # b = 1\n  b = 1\n\n\t[ a . c ]\n\tb=2\n',
        {("name",): 3, ("a",): 4, ("a", "b"): 5, ("a", "c"): 7, ("a", "c", "b"): 8},
    ),
    "implicit tables become explicit": (
        "[a.b.c]\nx = 1\n[a]\ny = 2\n",
        {
            ("a",): 3,
            ("a", "b"): 1,
            ("a", "b", "c"): 1,
            ("a", "b", "c", "x"): 2,
            ("a", "y"): 4,
        },
    ),
    "arrays of tables": (
        "[[phases]]\nname = 1\n[phases.teaching]\nkind = 2\n\n[[phases]]\nname = 3\n"
        "[[phases.parts]]\nx = 4\n[[phases.parts]]\nx = 5\n[phases.parts.deep]\ny = 6\n",
        {
            ("phases",): 1,
            ("phases", 0): 1,
            ("phases", 0, "name"): 2,
            ("phases", 0, "teaching"): 3,
            ("phases", 0, "teaching", "kind"): 4,
            ("phases", 1): 6,
            ("phases", 1, "name"): 7,
            ("phases", 1, "parts"): 8,
            ("phases", 1, "parts", 0): 8,
            ("phases", 1, "parts", 0, "x"): 9,
            ("phases", 1, "parts", 1): 10,
            ("phases", 1, "parts", 1, "x"): 11,
            ("phases", 1, "parts", 1, "deep"): 12,
            ("phases", 1, "parts", 1, "deep", "y"): 13,
        },
    ),
    "an array of tables below a table": (
        "[a]\n[[a.b]]\nx = 1\n[[a.b]]\n[a.c]\n",
        {
            ("a",): 1,
            ("a", "b"): 2,
            ("a", "b", 0): 2,
            ("a", "b", 0, "x"): 3,
            ("a", "b", 1): 4,
            ("a", "c"): 5,
        },
    ),
    "dotted keys": (
        "a.b = 1\na . c.d = 2\n[t]\na.b = 3\n",
        {
            ("a",): 1,
            ("a", "b"): 1,
            ("a", "c"): 2,
            ("a", "c", "d"): 2,
            ("t",): 3,
            ("t", "a"): 4,
            ("t", "a", "b"): 4,
        },
    ),
    "quoted keys": (
        '"a.b" = 1\n\'c]#=\' = 2\n"" = 3\n["d\\"e".\'f g\']\n"\\u00e9\\t" = 4\n1.2 = 5\n',
        {
            ("a.b",): 1,
            ("c]#=",): 2,
            ("",): 3,
            ('d"e',): 4,
            ('d"e', "f g"): 4,
            ('d"e', "f g", "é\t"): 5,
            ('d"e', "f g", "1"): 6,
            ('d"e', "f g", "1", "2"): 6,
        },
    ),
    "multi-line basic strings": (
        'a = """\n[b]\nc = 1 \\""" still\n\\\\"""\nd = """x"""""\ne = """"quoted""""\n'
        'f = ""\ng = 1\n',
        {("a",): 1, ("d",): 5, ("e",): 6, ("f",): 7, ("g",): 8},
    ),
    "multi-line literal strings": (
        "a = '''\n[b]\nc = \\'''\nd = '''''quoted'''''\ne = ''\n"
        "f = 'C:\\'\ng = \"\\\\\"\nh = '#'\n",
        {("a",): 1, ("d",): 4, ("e",): 5, ("f",): 6, ("g",): 7, ("h",): 8},
    ),
    "multi-line arrays": (
        'a = [ # [x]\n  1,\n  # b = 2\n  "]",\n\n  [3,\n   4],\n]\nb = []\nc = [\n]\nd = 1\n',
        {
            ("a",): 1,
            ("a", 0): 2,
            ("a", 1): 4,
            ("a", 2): 6,
            ("a", 2, 0): 6,
            ("a", 2, 1): 7,
            ("b",): 9,
            ("c",): 10,
            ("d",): 12,
        },
    ),
    "inline tables": (
        'a = {b = 1, "c.d" = {}, e.f = [\n  2]}\nl = [\n  {x = "}"},\n  {x = 2, y = {z = 3}},\n]\n',
        {
            ("a",): 1,
            ("a", "b"): 1,
            ("a", "c.d"): 1,
            ("a", "e"): 1,
            ("a", "e", "f"): 1,
            ("a", "e", "f", 0): 2,
            ("l",): 3,
            ("l", 0): 4,
            ("l", 0, "x"): 4,
            ("l", 1): 5,
            ("l", 1, "x"): 5,
            ("l", 1, "y"): 5,
            ("l", 1, "y", "z"): 5,
        },
    ),
    "values of every kind, Windows line ends": (
        "a = 1979-05-27 07:32:00\r\nb = -inf\r\nc = 0x_ff\r\n".replace("_", "")
        + "d = true\r\ne = 1e-3\r\nf = [1.5,2]",
        {
            ("a",): 1,
            ("b",): 2,
            ("c",): 3,
            ("d",): 4,
            ("e",): 5,
            ("f",): 6,
            ("f", 0): 6,
            ("f", 1): 6,
        },
    ),
    "nothing": ("# only a comment", {}),
}


def paths(node, at=()):
    """Every key and array element of TOML data."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*at, key)
        if isinstance(value, dict | list):
            yield from paths(value, (*at, key))

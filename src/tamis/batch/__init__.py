"""Files in, files out: `tamis score`.

    input files -> sources -> blocks -> engine (parse, score, write a part) -> assemble -> output

A block is a fixed range of one input; its scores become one part. Blocks depend on the input and the settings
alone, so a part is the same bytes whichever process, engine or run makes it. Knows no service and no store.
"""

"""Makes receipts.otf out of Debian's package fonts-noto-cjk (and `pip install fonttools`):

    python3 subset.py /usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc

It keeps what JIS X 0213 and Windows-31J can say (all of JIS X 0208, and the kanji of names beside
it), Latin-1 and Latin Extended-A; no hints and no layout tables, as no receipt needs them.
"""

import sys

from fontTools import subset

JAPANESE = 0  # The face's number in the collection.


def is_known(char):
    for codec in ("cp932", "shift_jis_2004"):
        try:
            chr(char).encode(codec)
            return True
        except UnicodeEncodeError:
            pass
    return False


def characters():
    latin = [*range(0x20, 0x7F), *range(0xA0, 0x180), *map(ord, "‐–—−〜‘’“”𠮷")]
    # Surrogates and private characters are nobody's.
    planes = [*range(0x180, 0xD800), *range(0xF900, 0x10000), *range(0x20000, 0x30000)]
    return latin + [char for char in planes if is_known(char)]


def main():
    options = subset.Options()
    options.font_number = JAPANESE
    options.hinting = False
    options.desubroutinize = False
    options.layout_features = []
    options.drop_tables += ["GSUB", "GPOS", "GDEF", "BASE", "VORG", "vhea", "vmtx", "DSIG"]
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]
    options.notdef_outline = True
    font = subset.load_font(sys.argv[1], options)
    chosen = subset.Subsetter(options)
    chosen.populate(unicodes=characters())
    chosen.subset(font)
    subset.save_font(font, "receipts.otf", options)


main()

/**
 * Characters outside ASCII that tokenizers work with. They are computed: minifiers turn escapes into the characters
 * themselves, and a page without `<meta charset>` reads a classic script in another encoding. Tokens would silently be
 * wrong.
 */

/** U+2581, which stands for a space in SentencePiece. */
export const SPACE_SYMBOL = /* @__PURE__ */ decodeURIComponent('%E2%96%81');

/** U+2047, the default text of an unknown token. */
export const UNKNOWN_SYMBOL = /* @__PURE__ */ decodeURIComponent('%E2%81%87');

/** U+FFFD, the text of bytes that are not UTF-8. */
export const REPLACEMENT_SYMBOL = /* @__PURE__ */ decodeURIComponent('%EF%BF%BD');

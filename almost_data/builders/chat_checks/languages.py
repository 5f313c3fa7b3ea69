"""Whether a reply is in another language than its prompt: by its script, or by its small words.

Unsure means no. A conversation that names a language, or asks for a translation, is left alone.
"""

import functools
from collections.abc import Iterator

import polars as pl

from ...diagnostics.scripts import SCRIPTS
from .patterns import CODE, matching

HEAD = 500
"""Characters by which a language is told."""
MIN_LETTERS, MIN_LATIN, MIN_REPLY = 5, 10, 20
"""Letters that a prompt has at least, one in Latin script, which names and commands have too, and a reply."""
QUOTED = 4
"""Letters of the reply's script in the conversation: so many are an example to follow."""

SMALL_WORDS = {
    "English": "an|the|and|or|of|to|on|from|for|with|that|this|it|is|are|was|be|have|has|do|does|can|could|"
    "should|would|will|not|if|me|my|you|your|what|how|why|who|when|where|which",
    "German": "der|die|das|den|dem|und|oder|nicht|ein|eine|einen|einer|von|zu|für|auf|im|bei|mit|ist|sind|"
    "kann|man|ich|sie|es|auch|wie|was|warum|wer|wo|wenn",
    "French": "le|la|les|de|du|des|un|une|et|ou|pour|dans|sur|avec|est|sont|ne|pas|ce|que|qui|quoi|je|vous|"
    "il|comment|pourquoi",
    "Spanish": "el|la|los|las|de|del|un|una|en|por|para|con|es|son|no|se|lo|que|qué|cómo|mi|tu|su",
    "Italian": "il|lo|la|gli|di|del|della|un|una|in|per|con|è|sono|non|si|che|come|perché|cosa|mi",
    "Portuguese": "os|as|de|do|da|um|uma|em|no|na|por|para|com|é|são|não|se|que|como|você",
    "Dutch": "de|het|een|en|van|in|op|voor|met|is|zijn|niet|dat|die|wat|hoe|waarom|ik|je|kan|ook|maar",
    "Polish": "na|do|się|nie|jest|to|że|jak|co|czy|dla|od|po|są|który|która|przez|oraz|ponieważ|mój",
    "Turkish": "ve|bir|bu|için|ile|da|de|ne|nasıl|mi|mı|mu|çok|daha|olan|olarak|neden|çünkü|gibi|kadar|en|ya",
    "Vietnamese": "là|và|của|có|không|được|cho|các|một|những|trong|với|để|này|khi|như|thế|nào|tôi|bạn|vì",
    "Indonesian": "yang|dan|di|ke|dari|untuk|dengan|ini|itu|adalah|tidak|apa|bagaimana|pada|saya|karena|"
    "lebih|dalam|atau|anda|akan",
    "Swedish": "och|att|det|som|en|ett|är|inte|på|för|med|av|om|den|hur|vad|varför|jag|du|kan|till|eller",
    "Danish or Norwegian": "og|at|det|som|en|et|er|ikke|på|for|med|av|af|om|den|hvordan|hva|hvad|hvorfor|jeg|"
    "kan|til|eller",
    "Czech": "se|je|na|že|to|jak|co|pro|do|od|jsou|nebo|ale|jako|který|která|protože|proč|můj|než",
    "Romanian": "și|de|la|în|un|nu|este|sunt|care|cu|pentru|din|ce|cum|mai|pe|să|că|sau|îmi",
    "Hungarian": "az|és|hogy|nem|egy|is|van|mi|miért|hogyan|ez|de|vagy|mint|mert|kell|el|meg|jobban",
    "Finnish": "ja|on|ei|se|että|miten|mikä|miksi|kuin|mutta|tai|ovat|hän|minun|koska|joka|myös|voi|kun",
    "Swahili": "na|ya|wa|kwa|ni|la|za|katika|hii|hiyo|kama|gani|jinsi|kuwa|sababu|yake|kuliko|au",
}
"""Words that most sentences of a language have some of; a word may be of several. No single plain letters,
which are also variables."""
IN_REPLY, DISTINCT = 5, 3
"""Small words of another language that a reply has, and how many of them differ."""

_TRANSLATION = (
    r"translat|interpret(er|ing)|übersetz|\btradu|vertaal|tłumacz|překlad|přelož|översätt|oversett|oversæt|"
    r"fordít|çevir|terjemah|tafsiri|dịch|перев[её]д|перевод|перекла|翻[译譯訳]|[英和]訳|번역|ترجم|תרגם|תרגום|"
    r"μετ[άα]φρα|अनुवाद|แปล"
)
_WORD_FOR_LANGUAGE = (
    r"\blanguages?\b|\balphabet|\blyrics?\b|lorem ipsum|\bsprache|\blangue|\bidioma|\blingua\b|\btaal\b|"
    r"\bjęzyk|\bjazyk|\bspråk|\bsprog|\bnyelv|\bbahasa|\btiếng |\blugha|язык|мов[аоу]\b|[语語]|언어|لغ[ةه]|"
    r"שפה|γλώσσ|भाषा|ภาษา"
)
_NAME_OF_LANGUAGE = (
    r"\b(english|german|french|spanish|castilian|catalan|italian|portuguese|dutch|polish|czech|slovak|"
    r"swedish|danish|norwegian|finnish|hungarian|romanian|bulgarian|serbian|croatian|ukrainian|russian|"
    r"turkish|greek|latin|hebrew|arabic|persian|farsi|urdu|hindi|punjabi|bengali|tamil|telugu|thai|"
    r"vietnamese|indonesian|malay|swahili|chinese|mandarin|cantonese|japanese|korean|romaji|pinyin|kanji|"
    r"hiragana|katakana|cyrillic)"
    r"\b|\b(englisch|deutsch|französisch|spanisch|italienisch|portugiesisch|russisch|chinesisch|japanisch|"
    r"latein|anglais|allemand|espagnol|italien|portugais|russe|chinois|japonais|inglés|alemán|francés|"
    r"español|chino|japonés|ruso|inglês|alemão|francês|espanhol|russo|inglese|tedesco|francese|spagnolo|"
    r"engels|duits|frans|spaans|angielsk|niemieck|polsk|anglick|českém?|engelsk|svenska|angol|englez|"
    r"ingilizce|türkçe|almanca|fransızca|inggris|kiingereza)|[英中日韩韓法德俄西泰越葡意阿][文语語]|(영|한국|"
    r"일본|중국|독일|프랑스|스페인|러시아)어|(영|국|한|중|일)문|한글|английск|англоязыч|русск|немецк|"
    r"французск|испанск|китайск|японск|украин|англійськ|إنجليزي|انجليزي|عربي|فرنسي|"
    r"אנגלית|עברית|צרפתית|αγγλικ|ελληνικ|γερμανικ|γαλλικ|अंग्रेज़?ी|हिंदी|हिन्दी|हिंग्लिश|रोमन|उर्दू|तमिल|"
    r"อังกฤษ"
)
NAMES_A_LANGUAGE = f"(?i){_TRANSLATION}|{_WORD_FOR_LANGUAGE}|{_NAME_OF_LANGUAGE}"
_NO_PROSE = rf"{CODE}|\$\$.*?\$\$|\$[^$\n]+\$|\\\[.*?\\\]|\\\(.*?\\\)|https?://\S+|<[^<>\n]{{1,200}}>"
"""Code, formulas, addresses and tags, which are of no language."""
_WORDS_IN_A_ROW = r"(?:[\p{Latin}'’-]+[,;:]? +){4}[\p{Latin}'’-]+"
_CODE_LINE = (
    r"(?m)[;{}]\s*$|^\s*(?:def|class|for|while|if|return|import|from|function|const|let|var|public|select|"
    r"SELECT|INSERT|UPDATE|CREATE)\b.*(?:[:;{(=*>]|\bFROM\b)"
)
_KANA, _HAN = r"[\p{Hiragana}\p{Katakana}]", r"\p{Han}"
_SEPARATORS = " \t\n.,;:!?()[]{}'\"’“”«»*_|=<>"
_PROMPT, _REPLY, _CONTEXT = pl.col("prompt"), pl.col("response"), pl.col("context")


def is_other_language(rows: pl.DataFrame) -> pl.Series:
    """Whether each `response` is in another language than its `prompt`; `context` is all turns before it."""
    texts = rows.select("prompt", "context", "response").with_row_index()
    # Few rows could fall, and only those are looked at closely.
    suspect = pl.concat([*_by_script(texts), *_by_words(texts)])
    suspects = texts[suspect.unique()].filter(~_CONTEXT.str.contains(NAMES_A_LANGUAGE))
    suspects = suspects.with_columns(_REPLY.str.replace_all(_NO_PROSE, " ")).filter(~_is_code())
    foreign = suspects.join(pl.concat(_by_script(suspects)).to_frame(), on="index", how="semi")
    by_script = foreign.filter(_is_prose(), ~_is_quoted())["index"]
    foreign_index = pl.concat([by_script, *_by_words(suspects)])
    return matching(rows, foreign_index)


def _by_script(texts: pl.DataFrame) -> list[pl.Series]:
    """Rows whose prompt has mostly letters of one script, and whose reply has hardly any of it."""
    is_ascii = pl.all_horizontal(column.str.len_bytes() == column.str.len_chars() for column in _TEXTS)
    rest = _heads(texts.filter(~is_ascii)).with_columns(
        in_prompt=_PROMPT.str.count_matches(r"\p{L}"), in_reply=_REPLY.str.count_matches(r"\p{L}")
    )
    rest = rest.filter(pl.col("in_prompt") >= MIN_LETTERS, pl.col("in_reply") >= MIN_REPLY)
    places = []
    for name, pattern in SCRIPTS.items():
        is_main = _PROMPT.str.count_matches(pattern) > 0.6 * pl.col("in_prompt")
        rest = rest.with_columns(is_main=is_main)
        least = MIN_LATIN if name == "Latin" else MIN_LETTERS
        of_script = rest.filter("is_main", pl.col("in_prompt") >= least)
        has_few = _REPLY.str.count_matches(pattern) < 0.1 * pl.col("in_reply")
        if pattern.count("Han"):
            has_few = has_few | _is_chinese_for_japanese()
        places.append(of_script.filter(has_few)["index"])
        rest = rest.filter(~pl.col("is_main"))
    return places


def _is_chinese_for_japanese() -> pl.Expr:
    """Whether a prompt has no kana and its reply much, or the other way round."""
    prompt, reply = (column.str.count_matches(_KANA) for column in _TEXTS)
    is_japanese = (prompt == 0) & (pl.col("in_prompt") >= 8) & (reply > 0.3 * pl.col("in_reply"))
    is_chinese = (prompt > 0.3 * pl.col("in_prompt")) & (reply == 0)
    return is_japanese | is_chinese


def _by_words(texts: pl.DataFrame) -> Iterator[pl.Series]:
    """Rows whose reply has small words of a language of which the prompt has none.

    The prompt has two words of some language, and the reply no two of any of these: a short English question
    has a word or two that are Portuguese, too.
    """
    heads = _heads(texts)
    prompts = [heads.filter(_PROMPT.str.contains(_several(words))) for words in SMALL_WORDS.values()]
    pairs = zip(prompts, SMALL_WORDS.values(), strict=True)
    shared = pl.concat(rows.filter(_REPLY.str.contains(_several(words)))["index"] for rows, words in pairs)
    lacking = pl.concat(prompts).unique("index").filter(~pl.col("index").is_in(shared.implode()))
    for words in SMALL_WORDS.values():
        # In lower case, as the names in a list are not.
        hits = _REPLY.str.extract_all(_small(words).removeprefix("(?i)"))
        distinct = hits.list.eval(pl.element().str.strip_chars(_SEPARATORS)).list.n_unique()
        has_many = (hits.list.len() >= IN_REPLY) & (distinct >= DISTINCT)
        yield lacking.filter(~_PROMPT.str.contains(_small(words))).filter(has_many)["index"]


@functools.cache
def _small(words: str) -> str:
    """One of the words, between blanks that `_heads` doubled; parts of an address or a path are none."""
    return rf"(?i)(?:^|[^\w/.-])(?:{words})(?:\W|$)"


@functools.cache
def _several(words: str) -> str:
    """Two of the words, anywhere: a search that ends at the second is faster than a count."""
    return rf"(?s){_small(words)}.*?{_small(words).removeprefix('(?i)')}"


def _heads(texts: pl.DataFrame) -> pl.DataFrame:
    """Both texts as far as they are read, each blank twice: one ends a word, and one begins the next."""
    return texts.with_columns(
        column.str.head(HEAD).str.replace_all(" ", "  ", literal=True) for column in _TEXTS
    )


def _is_code() -> pl.Expr:
    """Whether a reply without its fences has lines of code, or is an alphabet."""
    words = _REPLY.str.count_matches(r"\S+")
    is_alphabet = _REPLY.str.count_matches(r"(?:^|\s)\p{L}(?:\s|$)") > 0.2 * words
    return _REPLY.str.contains(_CODE_LINE) | (is_alphabet & (words > 10))


def _is_prose() -> pl.Expr:
    """Whether a reply is no list of names, which stand in Latin letters in any language."""
    is_latin = _REPLY.str.count_matches(r"\p{Latin}") > 0.6 * _REPLY.str.count_matches(r"\p{L}")
    return ~is_latin | _REPLY.str.contains(_WORDS_IN_A_ROW)


def _is_quoted() -> pl.Expr:
    """Whether the conversation shows text in the script of the reply, other than Latin."""
    letters = _REPLY.str.count_matches(r"\p{L}")
    is_shown = pl.lit(False)
    for name, pattern in SCRIPTS.items():
        if name != "Latin":
            is_main = _REPLY.str.count_matches(pattern) > 0.6 * letters
            is_the_prompts = _PROMPT.str.count_matches(pattern) > 0.6 * _PROMPT.str.count_matches(r"\p{L}")
            is_in_context = _CONTEXT.str.count_matches(pattern) >= QUOTED
            is_shown = is_shown | (is_main & is_in_context & ~is_the_prompts)
    return is_shown


_TEXTS = (_PROMPT, _REPLY)

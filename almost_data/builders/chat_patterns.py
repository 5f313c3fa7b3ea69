"""What the checks of chat replies look for: refusals, talk of itself as an AI, and text that was cut.

Written for few false alarms, as a build drops what they find. The page on verdicts says how often they are
right, measured on real replies.
"""

import polars as pl


def _any(*patterns: str) -> str:
    """One pattern. Its word boundaries are those of ASCII, which are found many times faster."""
    return f"(?i)({'|'.join(patterns)})".replace(r"\b", r"(?-u:\b)")


# --- refusal --------------------------------------------------------------------------------------------
OPENING = 250
"""Characters in which a refusal begins, up to the first quotation mark: what others say is no refusal."""
LONG = 600
"""A longer reply that turns from its refusal to an answer is no refusal."""
_CANNOT = (
    r"(can(['’]?t|not| not)( and (will|would|should) not)?|(won['’]?t|(will|would|should) not)( be able to)?|"
    r"must decline to|refuse to|(['’]?m| am) (unable|not (able|willing|going|allowed|permitted|programmed|"
    r"designed|trained|authorized|equipped)) to|(don['’]?t|do not) (want|wish) to)"
    r"( (directly|actually|currently|ethically|legally|knowingly|in good conscience))?"
)
_WORK = (
    r"\b((explicit |harmful |illegal )?(information|instructions?|guidance|advice|content|material|details|"
    r"assistance|services?|help|support|answers?|examples?|images?|lyrics|requests?)|"
    r"(a|any|that|this) (response|answer|essay|script)|that|this)\b"
)
_HELP = (
    r"((help|assist)( you)?( out)?( with| in| to\b|[.,;!]|$)|help you\b|comply\b|"
    r"(fulfill?|satisfy|complete|process|accommodate) (that|this|your|the|such)\b|"
    r"(answer|respond to) (that|this|your|such|any)\b|(engage|participate) (in|with)\b|condone\b|"
    r"(provide|give|offer|generate|create|produce|write|share|reveal|reproduce)"
    rf"( [^\s.,;!?]+){{0,6}}? ?{_WORK}|"
    r"(suggest|promote|endorse|encourage) (or|any|such|illegal|harmful|unethical|violence)\b|"
    r"(discuss|talk about|speak about) (that|this|such)\b|do (that|so)( for you)?([.,;!]|$)|"
    r"(browse|access) (the (web|internet)|external|real-?time|live|urls?|links?|websites?)\b)"
)
_HELPING = (
    r"((helping|assisting|providing|writing|creating|generating|producing|sharing|discussing|answering|"
    r"engaging|continuing|participating)\b|(that|this)[.,;!])"
)
_SORRY = (
    r"((i['’]?m|i am) (really |very |truly |deeply |so )?(sorry|afraid)|sorry|my apologies|i apologi[sz]e|"
    r"unfortunately|regrettably)"
)
_TASK = (
    r"(provide|offer|answer|write|create|generate|share|complete|perform|continue (this|with)|"
    r"give (you|any|out|specific|medical|legal)|tell you|discuss|"
    r"(open|view|see|play|browse|access) (images?|pictures?|files?|videos?|links?|the|your|external))\b"
)
_CLAUSE = r"(^|[.!?]\s+|[,;:–—]\s*|\s[-–—]\s*|\b(but|so|and) )((but|so|and|then|therefore|however),? )?"
REFUSAL = _any(
    # A clause: "..., but I can't help with that"
    rf"{_CLAUSE}i ?(really )?{_CANNOT} {_HELP}",
    rf"{_CLAUSE}i((['’]?m| am) not|( do not| don['’]?t| would not| wouldn['’]?t) feel) "
    rf"(comfortable|interested in|willing to)( with)? {_HELPING}",
    r"\bnot something (that )?i(['’]?m| am| can| will)( \w+){0,2} "
    r"(help|assist|do|provide|discuss|write|create)",
    r"\b(it['’]?s|it is|it would be|it would) (not (be )?(appropriate|ethical|possible|okay|right)|"
    r"inappropriate|unethical|irresponsible) for me to\b",
    r"\b(outside|beyond|against) (of )?my (capabilit|scope|abilit|programming|guidelines|polic|principles)",
    # After an apology: "Sorry, I don't have access to your files"
    rf"^\W*(oh|hello|hi)?\W*{_SORRY}[^.!?\n]*?[,.!]?\s*\b(but |and |so |that |as )?i ?({_CANNOT} {_TASK}|"
    r"(['’]?m| am) not (comfortable|interested in|willing to|allowed to) \w+|"
    r"(don['’]?t|do not) (feel comfortable|have (access|the (ability|capability|capacity)|permission|"
    r"(enough |any |specific )?information))|"
    r"(['’]?m| am) (just |only )?an? ([a-z-]+ ){0,3}(ai|bot|chatbot|model|assistant),? (and|so) (i )?"
    r"(can['’]?t|cannot|don['’]?t|do not|am not|am unable))",
    rf"^\W*({_SORRY}\W*)?(but )?i( must| have to| need to|['’]?ll have to|['’]?d| would)?"
    r"( respectfully| politely| rather)? "
    r"(decline( to (help|assist|answer|provide|write|do|engage)\b| (this|that|your)\b|[.!])|"
    r"not (help|answer|do that|say)\b)",
    # Other languages
    r"^\W*(很?抱歉|对不起)[^。]{0,12}(无法|不能)",
    r"^\W*我(无法|不能)(帮助|协助|提供|回答|满足)",
    r"^\W*(申し訳(ありません|ございません))[^。]{0,30}(できません|お答え|できかね)",
    r"^\W*lo siento,? (pero )?no puedo (ayudar|proporcionar|responder|cumplir|ofrecer|brindar)",
    r"^\W*(je suis )?désolée?,? (mais )?je ne (peux|puis) pas (vous |t['’])?(aider|fournir|répondre)",
    r"^\W*(es )?tut mir leid,? (aber )?((das|dabei|damit) kann ich|ich kann)[^.]{0,60}nicht "
    r"(helfen|beantworten|bereitstellen|erfüllen|weiterhelfen)",
    r"^\W*(sinto muito|desculpe),? (mas )?(eu )?não posso (ajudar|fornecer|responder|atender)",
)
_LETTER = r"(?i)^\W*(dear|subject)\b"
_TURN = (
    r"(?i)\b(here (is|are)|here['’]s|((however|that said),?|but) "
    r"(if|here|let me|in general|generally|based on|i (can|could|will|would)|i['’](ll|d)|you can|some)\b)"
)


def is_refusal(text: pl.Expr) -> pl.Expr:
    """Whether a reply declines to answer: in its opening, and without turning to an answer."""
    opening = text.str.head(OPENING).str.replace(r"(?s)[\"“”«].*", "")
    is_refused = opening.str.replace_all(r"[^\S ]\s*| \s+", " ").str.contains(REFUSAL)
    turns_to_answer = (text.str.len_chars() > LONG) & text.str.head(LONG).str.contains(_TURN)
    return is_refused & ~opening.str.contains(_LETTER) & ~turns_to_answer


# --- identity -------------------------------------------------------------------------------------------
_KIND = (
    r"((ai|artificial intelligence)( (language )?(model|assistant|chatbot|chat bot|system|program|bot))?|"
    r"(language|llm|machine learning)( ai)? model( ai)?|llm|chat ?bot)"
)
_MAKERS = r"(openai|google|anthropic|meta( ai)?|microsoft|alibaba|mistral|deepseek|xai|lmsys|nvidia)"
_BUILT = r"(created|developed|made|trained|built|designed|programmed)"
_ADVERB = r"(just |only |merely |simply |actually |still )?"
IDENTITY = _any(
    # "As a large language model trained by ..., I"
    rf"\bas an? ([a-z-]+ ){{0,2}}{_KIND}( {_BUILT} [^,.]{{0,60}})?,? (i|my|i['’]\w+)\b",
    rf"(^|[.!?:]\s+|\bbut |\bsorry,? )as an? ([a-z-]+ ){{0,2}}{_KIND}( {_BUILT} [^,.]{{0,60}})?,",
    # "I'm just an AI", and not "I'm an AI engineer", nor in a quotation
    rf"(^|[^\"“\w])i(['’]?m| am) {_ADVERB}an? ([a-z-]+,? ){{0,2}}{_KIND}([.,;:!?)–—]|$|\s[-–—]|"
    rf" (and|so|but|who|that|which|without|here|not|{_BUILT})\b)",
    # "I'm Claude, made by ...", and not "I am Claude Monet"
    r"\b(i(['’]?m| am)|my name is) (chatgpt|gpt-?\d|qwen|deepseek|llama ?\d|"
    r"(claude|gemini|bard|llama|gemma|mistral)([.!]?\s*$|[.!,] (an?|i|how|made|created|your)\b))",
    rf"\bi(['’]?m| am| was)( \w+)? {_BUILT} by ({_MAKERS}|(the |an? )(team|company|lab|organi[sz]ation))\b",
    # What only a program says of itself
    r"\bi (don['’]?t|do not) (actually )?(have|possess|experience) (personal (experiences|opinions|beliefs|"
    r"feelings|emotions|preferences)|human (feelings|emotions|experiences)|emotions\b|feelings (or|and) |"
    r"(feelings|consciousness)[.,]|a physical (body|form)|"
    r"(direct )?(access to|the ability to (access|browse)) (real-?time|live|up-to-date|current) )",
    # Other languages
    r"作为一[个名款](人工智能|ai|大?语言模型)",
    r"我是(一[个名款](人工智能|ai|大?语言模型)|由.{1,20}(开发|训练))",
    r"(ai|人工知能|言語モデル)(アシスタント|言語モデル)?(として|ですので|なので)",
    r"\bals (ki|künstliche intelligenz|(großes |ki-)?sprachmodell|ki-\w+),? (kann|habe|bin|verfüge) ich\b",
    r"\ben tant qu(e |['’])(ia|intelligence artificielle|modèle de langage|assistant ia)\b",
    r"\bcomo (una? )?(ia|inteligencia artificial|modelo de (lenguaje|ia)|asistente de ia)\b[^.]{0,40}, ",
)

# --- cut off --------------------------------------------------------------------------------------------
_NEVER_LAST = (
    "the|a|an|its|their|your|our|my|every|because|although|unless|whereas|than|of|from|into|between|during|"
    "und|oder|weil|dass|eine|einer|einem|einen|les|une|dans|avec|los|las|una|del|pero|porque"
)
_SELDOM_LAST = (
    "to|with|for|by|at|in|on|as|which|who|is|are|was|were|has|have|had|can|could|will|would|should|may|might|"
    "must|be|been|if|when|while"
)
OPEN_END = (
    # A comma or a dash after three words: "Best regards," is a whole line
    r"((\S+[^\S\n]+){3,}(\S*[,،]|[-–—])|[，、]|"
    # A colon, and not that of a table's rule or of an emoji's name
    r"(^|\s)[^\s:]+:|：|[(\[{（]|"
    rf"\S[^\S\n]+[^\s,]+[^\S\n]+({_NEVER_LAST})|\S[^\S\n]+\p{{L}}{{4,}},? (and|or|but|nor)|"
    r"因为|所以|但是|而且|以及|或者|如果|虽然|例如|比如|を)$"
)
SELDOM_LAST = rf"\S[^\S\n]+[^\s,]+[^\S\n]+({_SELDOM_LAST})$"
END = 500
"""Characters at the end by which a cut is told."""
MARK = r"([.!?]['\"”’)]*\s|[。！？])"
MARKS = 2
"""With so many sentence marks before it, a text is punctuated, and a last word of `SELDOM_LAST` needs one."""
PROSE_WORDS = 8
"""In such a text, a last line of so many words that ends in a letter was cut, but for verse and lists."""
_LIST_LINE = r"^\s*([-*+•·▪–]|\d+[.)、]|[a-z][.)]|[一二三四五六七八九十]+、|[①-⑳]|#+|\||>|```|!?\[)"
_WORD_END = r"(^|\s)[^\s/@:.]*[\p{L}--[\p{Thai}\p{Lao}]]$"
"""The last word ends in a letter, and is no address; a sentence of Thai or Lao has no mark at its end."""
_VERSE_LINE = r"[\p{Lu}\p{Lo}][^\n]{0,78}"
_VERSE = rf"(?:^|\n){_VERSE_LINE}[^\n]?\n{_VERSE_LINE}[\p{{L}},;]\n{_VERSE_LINE}$"
"""Three short lines that begin in capitals, of which the second ends no sentence: a poem may end so."""
OPEN_LAST = r"[\p{L}\p{N},،，、:：\-–—(\[{（]$"
"""In these ends whatever is cut outside of code: in a letter, a digit or an opening mark."""
FACE = r"(^|\s)[:;=]['’]?-?[(\[]"
"""A sad face is no open bracket."""


def looks_cut(texts: pl.Series) -> pl.Series:
    """Whether each text ends as no finished one does, or without the mark that its other sentences end in."""
    rows = texts.to_frame("text").with_row_index()
    code = rows.filter(pl.col("text").str.contains("```", literal=True))
    open_fences = code.filter(pl.col("text").str.count_matches(r"(?m)^\s*```") % 2 == 1)
    # Few texts end so that they are looked at closely.
    ends = rows.select("index", end=pl.col("text").str.strip_chars_end().str.tail(END))
    ends = ends.filter(pl.col("end").str.contains(OPEN_LAST))
    ends = ends.with_columns(last_line=pl.col("end").str.split("\n").list.last())
    places = pl.concat([open_fences["index"], ends.filter(_is_open())["index"]])
    return pl.int_range(len(texts), dtype=pl.UInt32, eager=True).is_in(places.implode())


def _is_open() -> pl.Expr:
    """Whether an `end`, with its `last_line`, is open other than by a fence."""
    end, last_line = pl.col("end"), pl.col("last_line")
    no_faces = last_line.str.replace_all(FACE, "")
    opened, closed = (no_faces.str.count_matches(brackets) for brackets in (r"[(\[]", r"[)\]]"))
    is_open_bracket = (opened > closed) & last_line.str.contains(r"[\p{L}\p{N},]$")
    is_open_sentence = last_line.str.contains(SELDOM_LAST) | _is_open_prose(end, last_line)
    is_punctuated = end.str.count_matches(MARK) >= MARKS
    return is_open_bracket | (is_punctuated & is_open_sentence) | no_faces.str.contains(OPEN_END)


def _is_open_prose(end: pl.Expr, last_line: pl.Expr) -> pl.Expr:
    """Whether the last line is prose, no verse and no list, and ends in a letter."""
    words = last_line.str.count_matches(r"\S+")
    letters = last_line.str.count_matches(r"[\p{Han}\p{Hiragana}\p{Katakana}]")
    is_prose = (words >= PROSE_WORDS) | (letters >= 2 * PROSE_WORDS)
    is_other = last_line.str.contains(_LIST_LINE) | end.str.tail(3 * 80).str.contains(_VERSE)
    return is_prose & last_line.str.contains(_WORD_END) & ~is_other

"""Talk of a reply about itself as an AI, about who made it, and about the end of its training data."""

from collections.abc import Mapping, Sequence

import polars as pl

from .patterns import any_of, find, matching, words

_QUOTED = r"[\"“«][^\"“”«»\n]{1,200}[\"”»]"
"""What others say, or a text that is spoken of."""
_KIND = (
    r"((ai|artificial intelligence)( (language )?(model|assistant|chatbot|chat bot|system|program|bot))?|"
    r"(language|llm|machine learning)( ai)? model( ai)?|llm|chat ?bot)"
)
_MAKERS = (
    r"(openai|google|anthropic|meta( ai)?|microsoft|alibaba|mistral|deepseek|xai|lmsys|nvidia|moonshot|zhipu|"
    r"z\.ai|baidu|tencent|bytedance|ibm|amazon|cohere|hugging face|ai2|(the )?allen institute|01\.ai|"
    r"databricks|apple|perplexity|minimax|tii|upstage)"
)
_BUILT = r"(created|developed|made|trained|built|designed|programmed)"
_ADVERB = r"(just |only |merely |simply |actually |still )?"
_START = r"(^|[.!?。！]\s*)\W*"
_ENGLISH = any_of(
    # "As a large language model trained by ..., I"
    rf"\bas an? ([a-z-]+ ){{0,2}}{_KIND}( {_BUILT} [^,.]{{0,60}})?,? (i|my|i['’]\w+)\b",
    rf"(^|[.!?:]\s+|\bbut |\bsorry,? )as an? ([a-z-]+ ){{0,2}}{_KIND}( {_BUILT} [^,.]{{0,60}})?,"
    r"[^.!?\n]{0,60}\b(i|i['’]\w+|my|me)\b",
    r"\bas (your|an?) ((virtual|digital|helpful|online|ai) )+assistant,? i (don['’]?t|do not|can['’]?t|"
    r"cannot)\b",
    rf"\b(being|(since|because) i['’]?m) an? ([a-z-]+ ){{0,2}}{_KIND}, (i|my)\b",
    rf"\bi, as an? ([a-z-]+ ){{0,2}}{_KIND},",
    # "I'm just an AI", and not "I'm an AI engineer", nor in a quotation
    rf"(^|[^\"“\w])i(['’]?m| am) {_ADVERB}an? ([a-z-]+,? ){{0,2}}{_KIND}([.,;:!?)–—]|$|\s[-–—]|"
    rf" (and|so|but|who|that|which|without|here|not|{_BUILT})\b)",
    # "I'm Claude, made by ...", and not "I am Claude Monet"
    r"\b(i(['’]?m| am)|my name is) (chatgpt|gpt-?\d|qwen|deepseek|llama ?\d|meta ai|"
    r"(claude|gemini|bard|llama|gemma|mistral|grok|kimi|phi|granite)"
    r"([.!]?\s*$|[.!,] (an?|i|how|made|created|developed|built|your)\b))",
    rf"\b(i(['’]?m| am)|my name is) [\w.-]+( [\w.-]+)?,? (an? [^.!?\n]{{0,40}}?)?{_BUILT} (by|at) "
    rf"((the )?(team|researchers|people) (at|from) )?{_MAKERS}\b",
    rf"\b(i(['’]?m| am)|my name is) [\w.-]+( [\w.-]+)?, (an?|your) ((large |small |helpful )*language model|"
    rf"ai( assistant| companion| system| model| chatbot)?)([.,!]|$| (from|by|here|designed|{_BUILT})\b)",
    rf"\bi(['’]?m| am) {_ADVERB}a (computer program|virtual assistant (here|designed|{_BUILT}))\b",
    r"\bi(['’]?m| am) (powered by|based on|running on) (gpt|openai|llama|qwen|claude|gemini|gemma|mistral|"
    r"deepseek)",
    rf"\bi(['’]?m| am| was)( \w+)? {_BUILT} by ({_MAKERS}|(the |an? )(team|company|lab|organi[sz]ation))\b",
    # What only a program says of itself
    r"\bi (don['’]?t|do not) (actually )?(have|possess|experience) (personal (experiences|opinions|beliefs|"
    r"feelings|emotions|preferences)|human (feelings|emotions|experiences)|emotions\b|feelings (or|and|like|"
    r"as|the way) |(feelings|consciousness)[.,]|a physical (body|form)|"
    r"(direct )?(access to|the ability to (access|browse)) (real-?time|live|up-to-date|current) )",
    r"\bi lack (consciousness|feelings|emotions|personal (feelings|experiences|opinions))\b",
)
# A model's name, in any language
_NAMES = any_of(
    rf"{_START}(soy|je suis|ich bin|sono|sou|ik ben|jestem|jag är|ben|я|저는|私は|僕は|أنا) (chatgpt|"
    rf"gpt-?\d|qwen|"
    r"deepseek|llama ?\d|le chat|(mistral|claude|gemini|gemma)( \w+)?, )",
)
# Chinese: "作为一个人工智能，我", "我是由…开发的助手", "我是通义千问"
_CHINESE = any_of(
    r"(^|[。！!\n，,])作[为為](一?[个個名款])?(负责任的)?(人工智[能慧]|ai|大?型?[语語]言模型)([语語]言模型|"
    r"助手|模型)?[，,]?我",
    r"(^|[。！!\n，,])我(只|[仅僅])?是(一?[个個名款])?(人工智[能慧]|ai|大?型?[语語]言模型|"
    r"聊天机器人)([语語]言模型|助手|模型)?([，。,！!]|$)",
    r"(^|[。！!\n，,])我(叫[^。，,]{1,8}[，,])?是[^。，,]{0,3}由[^。]{1,20}([开開][发發]|训练|訓練|研发)",
    r"我是[^。，,]{1,14}([开開][发發]|训练|訓練|研发|打造)的[^。，,]{0,14}(助手|模型|ai)",
    r"(^|[。！!\n，,])我(是|叫)[^。，,]{0,6}(通义千问|千问|qwen|deepseek|深度求索|文心一言|chatglm|智谱清言|"
    r"kimi|豆包|chatgpt|混元|讯飞星火)[^。，,]{0,6}([，。,！!]|$)",
)
_JAPANESE = any_of(
    r"(^|[。！\n、]|私は|僕は)\s*(ai|人工知能|(大規模)?言語モデル)(アシスタント|言語モデル)?(として、|"
    r"ですので|なので|です[。、])",
    r"私は[^。]{0,24}(が開発した|によって(訓練|トレーニング|開発|作成)された)[^。]{0,10}(モデル|ai)",
)
_KOREAN = any_of(
    r"(저는|제가|나는) [^.!?\n]{0,30}(ai|인공지능|언어 ?모델)( 언어 ?모델| 어시스턴트| 비서)?(입니다|이므로|"
    r"이라서|이기 때문|로서|라서)",
    r"(ai|인공지능|언어 ?모델)(으?로서|이기 때문에),? (저는|제)",
)
# "As an AI, I" and "I am a language model"
_LATIN = any_of(
    r"\bals (ki|künstliche intelligenz|(großes |ki-)?sprachmodell|ki-\w+),? (kann|habe|bin|verfüge) ich\b",
    rf"{_START}ich bin (nur |lediglich )?(eine? )?(ki|künstliche intelligenz|([\wß-]+ )?sprachmodell|"
    rf"ki-\w+)\b",
    rf"{_START}en tant qu(e |['’])(ia|intelligence artificielle|modèle de langage|"
    rf"assistant ia)\b[^.!?\n]{{0,40}}"
    r"\b(je|j['’]|mes|mon|ma)\b",
    rf"{_START}je suis (juste |seulement )?(une? )?(ia\b|intelligence artificielle|"
    rf"(grand )?modèle de langage|"
    r"assistant ia\b)",
    rf"{_START}como (una? )?(ia|inteligencia artificial|modelo de (lenguaje|ia)|"
    rf"asistente de ia)\b[^.!?\n]{{0,40}}, "
    r"(no|yo|mi|me|puedo|soy|tengo|estoy)\b",
    rf"{_START}(yo )?soy (solo )?(una? )?(ia\b|inteligencia artificial|(gran )?modelo de (lenguaje|ia)|"
    r"asistente de ia\b)",
    rf"{_START}como (uma? )?(ia|inteligência artificial|modelo de linguagem|"
    rf"assistente de ia)\b[^.!?\n]{{0,40}}, "
    r"(não|eu|meu|minha|tenho|sou|posso)\b",
    rf"{_START}(eu )?sou (apenas )?(uma? )?(ia\b|inteligência artificial|(grande )?modelo de linguagem)",
    rf"{_START}(in quanto|come) (ia|intelligenza artificiale|modello (linguistico|"
    rf"di linguaggio))\b[^.!?\n]{{0,40}}, "
    r"(non|io|mi|posso|sono|ho)\b",
    rf"{_START}(io )?sono (solo )?(un['’ ]?)?(ia\b|intelligenza artificiale|(grande )?modello linguistico)",
    rf"{_START}(al ser|siendo|étant|da ich|essendo) (une? |una |eine )?(ia|ki|intelligence artificielle|"
    r"inteligencia artificial|modelo de lenguaje|modèle de langage)\b",
    rf"{_START}als (ai|taalmodel|kunstmatige intelligentie)(-\w+)?,? (kan|heb|ben) ik\b",
    rf"{_START}ik ben (slechts |maar )?een (ai|taalmodel|groot taalmodel|kunstmatige intelligentie)\b",
    rf"{_START}jako (ai|sztuczna inteligencja|(duży )?model językowy)\b[^.!?\n]{{0,20}},? (nie|mam|mogę)\b",
    rf"{_START}(ja )?jestem (tylko )?((dużym )?modelem językowym|sztuczną inteligencją|asystentem ai)\b",
    rf"{_START}(ben,? )?([\w ]{{0,30}})?(bir |büyük )?(yapay zek[aâ]|dil modeli)( (dil )?modeli| asistanı)?"
    r"(yim| olarak,?|"
    rf" olduğum)",
    rf"{_START}sebagai (sebuah )?(ai|model bahasa|kecerdasan buatan|asisten ai)\b[^.!?\n]{{0,20}}, saya\b",
    rf"{_START}saya adalah (sebuah )?(ai|model bahasa|kecerdasan buatan|asisten ai)\b",
    rf"{_START}(là|với tư cách là) một (ai|mô hình ngôn ngữ|trí tuệ nhân tạo|"
    rf"trợ lý ai)[^.!?\n]{{0,20}}, tôi\b",
    rf"{_START}tôi (chỉ )?là (một )?(mô hình ngôn ngữ|trí tuệ nhân tạo|trợ lý ai)",
)
_OTHER_SCRIPTS = any_of(
    rf"{_START}(как|будучи) (ии[ ,.—-]|искусственный интеллект|(большая )?языковая модель|"
    rf"ии-\w+)[^.!?\n]{{0,20}},? (я|у меня)\s",
    rf"{_START}я[ ,—–-]*(всего лишь |просто |только )?((большая )?языковая модель|искусственный интеллект|"
    rf"ии[ ,.—-]|ии-\w+)",
    rf"{_START}(як|я[ ,—–-]*) ?(штучний інтелект|(велика )?мовна модель)",
    rf"{_START}((بصفتي|بوصفي|كوني|أنا) |ك)(مجرد )?"
    r"(نموذج(ًا|ا)? لغ|ذكا(ء|ءً) اصطناعي|مساعد(ًا|ا)? ذك|نموذج ذكاء)",
    rf"{_START}(בתור|כ-?|אני (רק )?)(מודל שפה|בינה מלאכותית)",
    r"ในฐานะ(ที่เป็น)?\s?(ปัญญาประดิษฐ์|โมเดลภาษา|ai\b)|(ฉัน|ผม)(เป็น|คือ)(เพียง)?(ปัญญาประดิษฐ์|โมเดลภาษา)",
    rf"{_START}(एक )?(एआई|ai|भाषा मॉडल|कृत्रिम बुद्धि\S*)[^।]{{0,16}}के रूप में,? (मैं|मेर[ेीा]|मुझे)",
    rf"{_START}मैं (सिर्फ़? |केवल )?एक (एआई|ai|(बड़ा )?भाषा मॉडल)",
    rf"{_START}(ως|είμαι( απλώς)?( ένα)?) (μεγάλο )?(γλωσσικό μοντέλο|μοντέλο γλώσσας|τεχνητή νοημοσύνη)",
)
_CUTOFF = any_of(
    r"\bmy (knowledge|training|data)( data)?( base)? cut-? ?off\b",
    r"\bi have a knowledge cut-?off\b",
    r"\bmy cut-?off date\b",
    r"\bsince my (last|latest) (knowledge |training )?update in (\w+ )?\d{4}",
    r"\b(as of|up to|up until|until|at the time of|based on|beyond|after|according to) my (own )?"
    r"((last|latest|most recent|current) (knowledge |training )?(updates?|training|data|knowledge|"
    r"information|cut-?off)|(knowledge|training) (data|cut-?off))\b",
    r"\b(as of|up to|up until|until) my (own )?(knowledge|training)\b",
    r"\bmy (training( data)?|knowledge( base)?|data|information) (is |was |were )?(only )?"
    r"(goes? (up|until|to|only)|extends?|ends|ended|stops|stopped|has a cut-?off|cuts? off|"
    r"covers?( events)? (up|until)|includes? information up|limited to|is limited|last updated|"
    r"current (as of|up|until)|up to date until)\b",
    r"\bi was last (updated|trained) (in|on)\b",
    r"\bi (only )?have (information|knowledge|data)( of events)? up (to|until) \w*\.? ?(\d{1,2},? )?\d{4}",
    r"\bi (do not|don['’]t) have (any )?(data|information|knowledge) (on |about |of )?(events )?(after|"
    r"beyond) ",
    r"截[至止]到?我的?(知识|知識|训练|訓練|最后|最近|上[次一])|我的(知识库?|知識庫?|训练数据|訓練資料|"
    r"数据)(截[至止]|只到|更新到|截止)",
    r"根据我(\d{4}年|的训练)|\d{4}年(\d+月)?までの(情報|知識|データ)しか",
    r"私の(知識|学習データ|トレーニングデータ)は[^。]{0,12}まで|私の(知識の)?(最終更新|カットオフ)",
    r"(제|저의) (지식|학습 데이터|마지막 업데이트)[은는이가]? [^.]{0,12}(까지|기준)",
    r"\b(hasta|desde|según|a partir de) mi (última|más reciente) actualización|\bmi (conocimiento|"
    r"información) (llega|se extiende|termina)|\bmi fecha de corte\b",
    r"(à|de|selon|jusqu['’]à|depuis) ma dernière mise à jour|mes (connaissances|données d['’]entraînement) "
    r"(s['’]arrêtent|vont jusqu|datent)",
    r"(stand|zum zeitpunkt|nach|seit) meine[smr] letzten (updates?|wissensstand\w*|aktualisierung|"
    r"training\w*)|mein wissen(sstand)? (endet|reicht)|meine trainingsdaten (reichen|enden|gehen)",
    r"(até|desde|segundo) (a )?minha última atualização|meu conhecimento (vai até|termina)",
    r"(al|fino al|secondo il) mio ultimo aggiornamento|le mie conoscenze (arrivano|si fermano)",
    r"мо(ё|е|его|ему|и знания|и данные) (последн\w+ обновлени\w+|ограничен\w+|актуальны до|заканчиваются)",
    r"\bson güncellemem|\bbilgilerim [^.\n]{0,20}\d{4}",
    r"cập nhật (kiến thức )?(cuối|gần nhất)( cùng)? của tôi|kiến thức của tôi (chỉ |được )?(đến|cập nhật|"
    r"giới hạn)",
    r"mo(ja|jej) wied\w+[^.\n]{0,20}(kończy|sięga)[^.\n]{0,20}\d{4}",
    r"(pengetahuan|pembaruan terakhir) saya [^.\n]{0,16}(hingga|sampai|pada|per) ",
    r"मेरे (अंतिम|आखिरी|नवीनतम) (अपडेट|ज्ञान)|\d{4}年(\d+月)?(まで|時点)で?の私の(知識|情報|データ)",
    r"\bavailable to me (up to|until|as of)\b",
    r"آخر تحديث (لي|لمعلوماتي|لبياناتي)",
)
_IDENTITIES = {
    _ENGLISH: words(
        "language model|an ai| ai | ai,|llm|machine learning|chatbot|chat bot|artificial int|assistant|"
        "computer program|chatgpt|gpt|qwen|deepseek|llama|claude|gemini|bard|gemma|mistral|grok|kimi|"
        "granite|created by|developed by|made by|trained by|built by|designed by|programmed by|"
        "trained at|i lack|have personal|have human|experience personal|experience human|"
        "experience emotions|possess|have emotions|have feelings|have consciousness|have a physical|"
        "access to real|access to live|access to up-to-date|access to current|ability to access|"
        "ability to browse"
    ),
    _NAMES: words("chatgpt|gpt|qwen|deepseek|llama|le chat|mistral|claude|gemini|gemma"),
    _CHINESE: words(
        "人工智|语言模型|語言模型|聊天机器人|开发|開發|训练|訓練|研发|打造|ai|作為ai|我是ai|千问|"
        "深度求索|文心一言|智谱|豆包|混元|星火|我是|我叫"
    ),
    _JAPANESE: words("ai|人工知能|言語モデル|モデル"),
    _KOREAN: words("ai|인공지능|언어|저는|제가|나는"),
    _LATIN: words(
        "als ki|ki-|künstliche intelligenz|sprachmodell|eine ki|intelligence artificielle|"
        "modèle de langage|que ia|qu'ia|qu’ia|une ia|assistant ia|una ia|como ia|soy ia|"
        "inteligencia artificial|modelo de|asistente de ia|inteligência|assistente de ia|uma ia|"
        "intelligenza artificiale|modello|quanto ia|come ia|un'ia|taalmodel|als ai|een ai|kunstmatige|"
        "sztuczn|jako ai|językowym|model językowy|yapay zek|dil model|sebagai ai|sebuah ai|adalah ai|"
        "model bahasa|kecerdasan buatan|asisten ai|một ai|mô hình ngôn|trí tuệ|trợ lý ai"
    ),
    _OTHER_SCRIPTS: words(
        "ии|искусственн|языков|штучн|мовна|نموذج|ذكا|ذكي|מודל שפה|בינה|ปัญญา|โมเดล|ในฐานะ|एआई|भाषा मॉडल|"
        "कृत्रिम| ai |μοντέλο|νοημοσύνη"
    ),
}
"""Pattern -> the words one of which each text has that it matches."""
_OF_TRAINING = words(
    "cutoff|cut-off|cut off|my |last updated|last trained|have information|have knowledge|have data|"
    "have any|information up|data up|我|私の|までの|제 |저의|mi |ma dernière|mes |mein|minha|meu |mio |"
    "le mie|мо|güncellemem|آخر|bilgilerim|của tôi|wied| saya|मेरे|available to me"
)


def is_identity(rows: pl.DataFrame) -> pl.Series:
    """Whether each `response` talks of itself as an AI."""
    return _talks(rows, _IDENTITIES)


def is_cutoff(rows: pl.DataFrame) -> pl.Series:
    """Whether each `response` talks of the end of its training data."""
    return _talks(rows, {_CUTOFF: _OF_TRAINING})


def _talks(rows: pl.DataFrame, patterns: Mapping[str, Sequence[str]]) -> pl.Series:
    talking = find(rows.select(text="response").with_row_index(), patterns)
    talking = talking.select("index", pl.col("text").str.replace_all(_QUOTED, ""))
    return matching(rows, find(talking, patterns)["index"])

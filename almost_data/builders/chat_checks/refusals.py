"""Whether a reply declines to answer.

Written for few false alarms, as a build drops what it finds. The page on verdicts says how often it is right.
"""

import polars as pl

from .patterns import any_of, find, matching, words

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
    r"assistance|services?|help|support|answers?|examples?|images?|lyrics|requests?|"
    r"opinions?|predictions?)|"
    r"(a|any|that|this) (response|answer|essay|script)|that|this)\b"
)
_HELP = (
    r"((help|assist)( you)?( out)?( with| in| to\b|[.,;!]|$)|help you\b|comply\b|"
    r"(fulfill?|satisfy|complete|process|accommodate) (that|this|your|the|such)\b|"
    r"(answer|respond to) (that|this|your|such|any)\b|answer[.!]|(engage|participate) (in|with)\b|condone\b|"
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
_SEE = (
    r"(open|view|see|play|hear|browse|access|process) "
    r"(images?|pictures?|photos?|files?|videos?|audio|links?)\b"
)
_TASK = (
    r"(provide|offer|answer|write|create|generate|share|complete|perform|continue (this|with)|"
    r"give (you|any|out|specific|medical|legal)|tell you (how to|that|about|what)\b|discuss|do (that|this)\b|"
    rf"{_SEE}|(open|view|see|play|browse|access) (the|your|external)\b)"
)
_TEACH = (
    r"((explain|describe|show you|teach you|tell you) (how to|the steps)|teach you to|tell you (that|"
    r"this)[.,]|walk you through|guide you (on|through|in)\b|recommend (ways|methods)|facilitate\b|"
    r"support (that|this|any|illegal|harmful|or promote)\b|continue (with )?(this|the) conversation|"
    rf"(role-?play|translate) (that|this)\b|{_SEE})"
)
_CLAUSE = (
    r"(^|[.!?]\s+|[,;:–—]\s*|\s[-–—]\s*|\b(but|so|and|i['’]?m afraid( that)?|regret to inform you that) )"
    r"((but|so|and|then|therefore|however|unfortunately|regrettably|as an? ([a-z]+ ){0,2}(assistant|ai|"
    r"model)),? )?"
    r"[*_>#\s]*"
)
_ENGLISH = (
    # A clause: "..., but I can't help with that"
    rf"{_CLAUSE}i ?(really )?{_CANNOT} {_HELP}",
    rf"{_CLAUSE}i((['’]?m| am) not|( do not| don['’]?t| would not| wouldn['’]?t) feel) "
    rf"(comfortable|interested in|willing to)( with)? {_HELPING}",
    r"\bnot something (that )?i(['’]?m| am| can| will)( \w+){0,2} "
    r"(help|assist|do|provide|discuss|write|create)",
    r"\b(it['’]?s|it is|it would be|it would) (not (be )?(appropriate|ethical|possible|okay|right)|"
    r"inappropriate|unethical|irresponsible) for me to\b",
    r"\b(outside|beyond|against) (of )?my (capabilit|scope|abilit|programming|guidelines|polic|principles)|"
    r"\bagainst (my|our) content polic",
    # The first words: "I can't explain how to", "Can't help with that"
    rf"^\W*({_SORRY}\W*(but )?)?i ?{_CANNOT} {_TEACH}",
    r"^\W*((sorry|no|nope)\W*(but )?)?(can['’]?t|cannot) (help|assist|do)( you)?( with)? (that|this)\b",
    r"^\W*i (don['’]?t|do not) have the (ability|capability|capacity) to\b",
    r"^\W*i['’]?d (rather|prefer) not (to )?(say|answer|talk about|discuss|continue)\b",
    r"^\W*(sorry\W*(but )?)?(the|this|your|that) request (can['’]?t|cannot) be (fulfilled|completed|"
    r"processed)",
    # After an apology: "Sorry, I don't have access to your files"
    rf"^\W*(oh|hello|hi)?\W*{_SORRY}[^.!?\n]*?[,.!]?\s*\b(but |and |so |that |as )?i ?({_CANNOT} {_TASK}|"
    r"(['’]?m| am) not (comfortable|interested in|willing to|allowed to) \w+|"
    r"(don['’]?t|do not) (feel comfortable|have (access|the (ability|capability|capacity)|permission|"
    r"(enough |any |specific )?information))|(['’]?m| am) (just |only )?an? ([a-z-]+ ){0,3}(ai|bot|chatbot|"
    r"model|assistant),? (and|so) (i )?"
    r"(can['’]?t|cannot|don['’]?t|do not|am not|am unable))",
    rf"^\W*({_SORRY}\W*)?(but )?i( must| have to| need to|['’]?ll have to|['’]?d| would)?"
    r"( respectfully| politely| rather)? "
    r"(decline( to (help|assist|answer|provide|write|do|engage)\b| (this|that|your)\b|[.!])|"
    r"not (help|answer|do that|say)\b)",
)
_EAST_ASIAN = (
    r"^\W*[很非常十分]{0,2}(抱歉|对不起|對不起|遗憾|遺憾|"
    r"不好意思)[，,！!。\s]*(但是?)?(作[为為][^，。]{0,14}[，,])?我?"
    r"(还|還|暂时|目前)?(没有学[会习]|沒有學[會習]|(无法|無法|不能|没办法|不会|不便)[^。！!，,]{0,10}"
    r"(帮|幫|助|提供|回答|满足|滿足|处理|處理|完成|讨论|討論|继续|繼續|生成|答))",
    r"^\W*(你好|您好|[很非常十分]{0,2}抱歉|对不起|"
    r"對不起)[，,！!]\s*[这這]个?個?[问問][题題]我[暂暫]?[时時]?[无無]法回答",
    r"(^|[，。,！!]|但)我(还|暂时|目前)?(无法|無法|不能)([为為给給向]您)?(提供|协助|協助|帮助|幫助|回答)"
    r"[^。！!，,]{0,16}([。！!]|$)",
    r"^\W*(我|这个问题我|這個問題我|您的问题我)(暂时|目前)?(无法|無法|不能|拒绝|不会)([为給给]您?)?"
    r"(帮|協|协|提供|回答|满足|滿足|讨论)",
    r"^\W*(申し訳(ありません|ございません)|すみません|ごめんなさい|恐れ入ります)[^。]{0,30}(お答え|回答|"
    r"お手伝い|対応|提供|お応え|応じ|お助け)[^。]{0,14}(できません|できかね|いたしかね|できない|ません)",
    r"^([^。\n]{0,40}。)?[^。\n]{0,30}(お答え|お応え|回答|お教え|提供|お手伝い)(する|し)?(こと)?[はが]?"
    r"(できません|できかね|しかね|いたしかね)",
    r"^(\W*죄송[^.\n]{0,12}\.\s*)?[^.\n]{0,40}(도와드릴|도움을 드릴|제공할|제공해 드릴|답변할|답변드릴|"
    r"알려드릴|응할) 수 없",
    r"^\W*(죄송|미안|유감)[^.!?\n]{0,30}(도와|도움|답변|제공|응답|대답|처리|수행|알려)[^.!?\n]{0,12}(수 없|"
    r"어렵|못)",
)
# An apology and a verb of help, or the request named
_ROMANCE = (
    r"^\W*(lamentablemente|desafortunadamente|lo siento)\W*(pero )?no (tengo la capacidad de|me es posible) "
    r"(abrir|acceder|ver|generar|ayudar|proporcionar)\b",
    r"^\W*(désolée?\W*(mais )?)?je n['’]ai (malheureusement )?pas la (possibilité|capacité) (de |d['’])",
    r"^\W*(sinto muito|desculpe|lamento|infelizmente)\W*(mas )?(eu )?não (posso|consigo) (criar|gerar|"
    r"produzir) "
    r"(conteúdo|imagens|isso|ess[ae])\b",
    r"^\W*no puedo (proporcionar|ofrecer|brindar|dar)(te|le)? (información|instrucciones|ayuda|asistencia)",
    r"\b(pero|que) no puedo ayudar(te|le) con (eso|esto|es[ae]|est[ae])\b",
    r"^\W*je ne (peux|puis) pas (vous |te |t['’])?(fournir|donner) (d['’]|de |des |cette |ces )?"
    r"(informations?|instructions?|conseils?|aide)",
    r"^\W*(désolée?\W*(mais )?)?je ne suis pas en mesure de (vous |te |t['’])?(aider|fournir|répondre)",
    r"^\W*non posso (aiutarti|aiutarla|fornire|rispondere) (a |con |in )?(quest|ciò|informazion|istruzion)",
    r"^\W*não posso (ajudar|fornecer|auxiliar)(-\w+)? (com )?(isso|ess[ae]|est[ae]|informaç|instruç)",
    r"^\W*(lo siento( mucho)?|lo lamento|me temo que|disculp[ae]|perdona?)\W*(pero )?no puedo "
    r"(ayudar|proporcionar|responder a|cumplir|ofrecer|brindar|asistir)",
    r"^\W*no puedo (ayudar(te|le|los)?|asistir(te|le)?|cumplir|responder) (con |en |a )?(eso|esto|es[ae]|"
    r"est[ae]|tu|su)\b",
    r"^\W*((je suis )?(désolée?|navrée?)|je regrette|malheureusement)\W*(mais )?je ne (peux|puis) pas "
    r"(vous |t['’])?(aider( (avec|à|sur|dans)|[.!])|fournir|répondre)",
    r"^\W*je ne (peux|puis) pas (vous |t['’])?(aider (avec|à)|répondre à|satisfaire) (ça|cela|ce|cette|"
    r"votre|ta|faire)",
    r"^\W*(mi dispiace|spiacente|purtroppo)\W*(ma )?non posso (aiutar|assister|fornir|risponder|soddisfar|"
    r"discuter)",
    r"^\W*(sinto muito|desculpe|lamento|infelizmente)\W*(mas )?(eu )?não posso "
    r"(ajudar( (com|nisso)|[.!]|-\w+)|fornecer|responder|atender|auxiliar)",
)
_GERMANIC = (
    r"^\W*((es )?tut mir leid\W*(aber )?)?ich kann (dir |ihnen )?keine? (anleitung|informationen|auskunft|"
    r"hilfe|ratschläge)[^.]{0,60}geben",
    r"^\W*ik kan (je|u) (daar|hier)[^.]{0,12}niet (mee |bij )?helpen",
    r"^\W*((es )?tut mir leid|entschuldigung|entschuldige|verzeihung)\W*(aber )?((das|dabei|damit|hier(bei|"
    r"mit)?) kann ich|ich kann)[^.]{0,60}nicht "
    r"(helfen|beantworten|bereitstellen|erfüllen|weiterhelfen|geben|bearbeiten)",
    r"^\W*((leider )?(dabei|damit|hierbei|hiermit) kann ich|ich kann (dir|ihnen)? ?(dabei|damit|hierbei)|"
    r"leider kann ich)"
    r"[^.]{0,30}nicht (weiter)?(helfen|beantworten|bereitstellen|erfüllen)",
    r"^\W*(es )?tut mir leid\W*(aber )?(dazu|hierzu) kann ich (dir |ihnen )?keine?\b",
    r"^\W*ich kann (diese|ihre|deine) (anfrage|bitte|frage) (leider )?nicht (erfüllen|beantworten|"
    r"bearbeiten)",
    r"^\W*(het spijt me|sorry|helaas)\W*(maar )?(ik kan|daar kan ik|hier kan ik|kan ik)[^.]{0,30}niet "
    r"(mee |bij )?(helpen|beantwoorden|verstrekken)",
    r"^\W*(tyvärr|jag är ledsen|förlåt)\W*(men )?(jag kan inte|kan jag inte|det kan jag inte) "
    r"(hjälpa|svara|tillhandahålla)",
)
_ELSEWHERE = (
    r"^\W*(извините|простите|прошу прощения|к сожалению|увы|мне жаль)?\W*(но )?я не (могу|в состоянии|"
    r"буду) (вам )?"
    r"(помочь|помогать|выполнить|ответить|отвечать|предоставить|обсуждать)",
    r"^\W*(извините|простите|к сожалению)?\W*(но )?не могу обсуждать (эту|этот|такие)",
    r"^\W*(вибачте|на жаль|перепрошую)\W*(але )?я не можу (вам )?(допомогти|відповісти|надати|виконати)",
    r"^\W*(przykro mi|przepraszam|niestety)\W*(ale )?(nie mogę|nie jestem w stanie) (ci |panu |w tym )*"
    r"(pomóc|spełnić|odpowiedzieć|udzielić)",
    r"^\W*(omlouvám se|je mi líto|bohužel)\W*(ale )?((s tím|v tom|vám|ti) ){0,3}nemohu "
    r"((s tím|v tom|vám|ti) ){0,3}(pomoci|pomoct|poskytnout|odpovědět)",
    r"^\W*bu (konuda|isteğ|talep)[^.\n]{0,30}(yardımcı olam|yerine getirem)",
    r"^\W*لا (أستطيع|يمكنني) (المساعدة|مساعدتك|تقديم)",
    r"^\W*(üzgünüm|maalesef|özür dilerim)[^.\n]{0,60}(yardımcı olam|yerine getirem|yanıtlayam|cevap verem|"
    r"sağlayam)",
    r"^\W*(tôi )?(rất )?(xin lỗi|rất tiếc)\W*(nhưng )?(tôi |mình )?không thể (giúp|hỗ trợ|cung cấp|trả lời|"
    r"đáp ứng|thực hiện)",
    r"^\W*(maaf|mohon maaf)\W*(tetapi |tapi )?saya tidak (dapat|bisa) (membantu|memberikan|menjawab|"
    r"memenuhi)",
    r"^\W*(samahani|pole)\W*(lakini )?siwezi (kukusaidia|kusaidia|kujibu|kutoa)",
    r"^\W*(عذر[اًا]*|آسف|أعتذر|متأسف|للأسف)[^.\n]{0,15}لا (يمكنني|أستطيع) (مساعد|تقديم|الإجابة|المساعدة|"
    r"تلبية|توفير)",
    r"^\W*(متاسفم|متأسفم|ببخشید|متأسفانه|متاسفانه)[^.\n]{0,15}نمی[\u200c ]?توانم[^.\n]{0,20}(کمک|پاسخ|ارائه)",
    r"^\W*(אני )?(מצטער|מצטערת|סליחה)\W*(אבל |אך )?(אני )?(לא יכול|לא יכולה|איני יכול) (לעזור|לסייע|לענות|"
    r"לספק)",
    r"^\W*(ขออภัย|ขอโทษ)\S*\s?(แต่)?(ฉัน|ผม|ดิฉัน|เรา)?\s?ไม่สามารถ(ช่วย|ให้ข้อมูล|ให้คำ|ตอบ|ทำตาม)",
    r"^\W*(क्षमा करें|माफ़? ?कीजिए|माफ़? करें|मुझे खेद है)\W*(लेकिन )?(मैं|कि मैं)[^।\n]{0,40}(मदद|सहायता|"
    r"उत्तर|जवाब|जानकारी)[^।\n]{0,12}नहीं",
    r"^\W*(λυπάμαι|συγγνώμη|δυστυχώς)\W*(αλλά )?δεν μπορώ (να )?(σας |σε )?(βοηθήσω|παράσχω|απαντήσω|δώσω)",
)
_REFUSALS = {
    any_of(*_ENGLISH): words(
        "can't|can’t|cant |cannot|can not|won't|won’t|not |unable|must decline|decline|refuse|sorry|"
        "afraid|apolog|unfortunately|regret|inappropriate|unethical|irresponsible|my capab|my scope|"
        "my abilit|my program|my guidelines|my polic|content polic|my principles|don't|don’t|dont "
    ),
    any_of(*_EAST_ASIAN): words(
        "抱歉|对不起|對不起|遗憾|遺憾|不好意思|无法|無法|不能|拒绝|不会|ません|かね|できない|죄송|미안|"
        "유감|수 없"
    ),
    any_of(*_ROMANCE): words("puedo|peux|puis|posso|mesure|capacidad|posible|n'ai|n’ai|consigo"),
    any_of(*_GERMANIC): ("kann ", "kan "),
    any_of(*_ELSEWHERE): words(
        "не |nie |nemohu|üzgün|maalesef|özür|bu |không|tidak|siwezi|لا |نمی|לא |איני|ไม่สามารถ|नहीं|δεν"
    ),
}
"""Pattern -> the words one of which each text has that it matches."""
_LETTER = r"(?i)^\W*(dear|subject|hi \w+,|hello \w+,)\b"
_TURN = (
    r"(?i)\b(here (is|are)|here['’]s|((however|that said),?|but) "
    r"(if|here|let me|in general|generally|based on|i (can|could|will|would)|i['’](ll|d)|you can|some)\b)"
)
_ASKS_FOR_A_REFUSAL = (
    r"(?i)\b(declin|refus|negar(me|se)|reject|turn(ing|s)? (it |this |him |her |them )?down|say(ing)? no|"
    r"apolog|cancel|refund|absag|ablehn|entschuldig|refuser|décliner|excuse|rechaz|declin|disculp|recus|"
    r"rifiut)|拒绝|婉拒|谢绝|道歉|致歉|退款|断り|お断り|お詫び|謝罪|거절|사과|отказ|извин|откаж"
)
"""What a prompt asks for whose good answer reads as a refusal, such as a letter."""


def is_refusal(rows: pl.DataFrame) -> pl.Series:
    """Whether each `response` declines to answer: in its opening, and without turning to an answer."""
    response, opening = pl.col("response"), pl.col("response").str.head(OPENING)
    in_line = opening.str.replace(r"(?s)[\"“”«].*", "").str.replace_all(r"[^\S ]\s*| \s+", " ")
    declined = find(rows.select("prompt", "response", text=in_line).with_row_index(), _REFUSALS)
    turns_to_answer = (response.str.len_chars() > LONG) & response.str.head(LONG).str.contains(_TURN)
    is_asked_for = pl.col("prompt").str.contains(_ASKS_FOR_A_REFUSAL)
    is_letter = pl.col("text").str.contains(_LETTER)
    return matching(rows, declined.filter(~is_letter, ~turns_to_answer, ~is_asked_for)["index"])

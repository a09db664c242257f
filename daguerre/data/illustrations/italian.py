"""What the clip art of one author shows, whose titles are Italian: title=label, where the names of emoji do not do."""

LABELS = """
armadillo=armadillo; acquila=eagle; cigni bianchi e neri=white and black swans; gabbiano=seagull; pollo=chicken;
simbolo egizio=Egyptian symbol; stormo di uccelli=flock of birds; cavalletta=grasshopper; coccinellona=lady beetle;
formichina=ant; formicona=ant; libellula=dragonfly; mantide religiosa=praying mantis; moschito=mosquito;
moschito stecchito=mosquito; mostriciattolo=little monster; quattro farfalle=four butterflies;
ragnetto incazzato=angry spider; cani e gatti cat and dog=cats and dogs; paesaggio marino=seascape;
pescetto arancione=orange fish; lucchetto grigio=gray padlock; lucchetto ottone=brass padlock; lucertolona=lizard;
lucertolone=lizard; antilope=antelope; bobi=dog; gattina cat=kitten; le mie tigri preferite=tiger;
rhinoceros=rhinoceros; stambecco valdostano=ibex; vacca pezzata rossa valdostana=cow; ramarro=green lizard;
tatoo tatuaggio tatuaggi=tattoo; capitello modanatura modanature moulure moulures=capital of a column;
demolizione costruzione=demolition; mobile=piece of furniture; poltrona ufficio=office chair;
tavolo in legno=wooden table; abitazione villa con giardino=house with garden; finestre sovrapposte=windows;
finestre vt=windows; floppy=floppy disk; floppy disk=floppy disk; schermo macintosh=computer screen;
unita disco rigido=hard disk; valigie bags=suitcases; decorazione=decoration; motivo geometrico=geometric pattern;
bibliografia francesco rollandin=book; libro di ricette di cucina italiana w italia=cookbook;
cassette video=video cassettes; macchina fotografica digitale=digital camera; telecamera=video camera;
bottiglia di vino pregiato=bottle of wine; ontologia del vino=wine; lattine di birra=beer cans;
macchina caffe=coffee machine; tazza di caffe=cup of coffee; come si dispongono le posate=table setting;
gelato all'italiana=ice cream; la prugna=plum; mix cucina frullatore=blender; pomodori=tomatoes; ravanello=radish;
zucca=pumpkin; appunti=notes; calcolatrice=calculator; carta=paper; cartella dossier directory=folder;
cassa d'epoca=antique cash register; cassa negozio=cash register; clips=paper clips; cup=cup; diagramma=diagram;
dossier=folder; istogramma=bar chart; lana=wool; lens lente=lens; lettera=letter; papers=papers;
pinzatrice rollandin=stapler; puntine=thumbtacks; scotch rollandin francesco=adhesive tape; tabella=table of data;
telefono email frollandin email it=telephone; aerobics=person doing aerobics; al bar=person at the bar;
architetto=architect; camicia in seta=silk shirt; pantyhose collant=pantyhose; pantyhose=pantyhose; pattino=skate;
female=woman; fitness=person doing fitness; nonno sport=old man doing sport; pattinatrice=skater;
pattinatrici sul ghiaccio=ice skaters; signore=gentleman; signorina=young woman; sub subacqueo=scuba diver;
utente singolo=user; utenti=users; yoga=person doing yoga; albero=tree; palloncini=balloons; anelli=rings; mondo=world;
esperimento chimico=chemistry experiment; medicina dottore=doctor; binocolo bn=binoculars;
ferro da stiro=flatiron; forchettoni da grigliata=barbecue forks; lampada di aladino aladin=magic lamp;
lente meno=magnifying glass with minus; lente normale=magnifying glass; livella=spirit level; mattone poroton=brick;
scolapasta e pentola=colander and pot; utensile sega=saw; viti=screws; pallone aerestatico=hot air balloon;
ballerina=dancer; barattolo di pillole=pill jar; borsa estiva=summer bag; casco con microfono=headset;
cestino pieno=full wastebasket; cestino vuoto=empty wastebasket; clessidra=hourglass; fuoco da campeggio=campfire;
chalet di montagna architetto francesco rollandin=mountain chalet; io donna uomo=woman and man; pecora=sheep;
ruota dentata=gear; ruota dentata grigia=gear; secchio e spugna=bucket and sponge; tante orme sulla neve=footprints;
sedia e ombrelloni=chair and parasols; toro al tramonto=bull at sunset; torta=cake;
utensili chiave e cacciavite=wrench and screwdriver
"""


def labels() -> dict[str, str]:
    """English labels by title, in lower case and without numbers."""
    return {title: label for title, _, label in (pair.strip().partition("=") for pair in LABELS.split(";"))}

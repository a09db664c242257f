"""What the drawings of FxEmojis show whose names no list of Unicode holds.

The package glues the words of its names together and has no code points. Most names are Unicode's without the spaces;
here is the rest, name=label. A label that is a concept's makes it one. Arrows, letters, flags and signs are left out.
"""

LABELS = """
2hearts=two hearts; acorn=acorn; americasglobe=globe showing Americas; anguish=anguished face; aok=OK hand;
asiaaustraliaglobe=globe showing Asia-Australia; banknotedollar=dollar banknote; banknoteeuro=euro banknote;
banknotepound=pound banknote; banknoteyen=yen banknote; bellcancellation=bell with slash;
blackhardshellfloppy=black floppy disk; blackskullcrossbones=skull and crossbones; blonde=person: blond hair;
bolt=high voltage; bookmarktab=bookmark tabs; bow=bow; bowing=person bowing; bride=bride; bunny=rabbit face;
bunny-ears=people with bunny ears; bunnyside=rabbit; catside=cat; cellphone=mobile phone;
chartdownwardstrend=chart decreasing; chartupwardstrend=chart increasing;
chartupwardstrendyen=chart increasing with yen; chilipepper=hot pepper; clamshellmobile=old mobile phone;
closedmailboxlowered=closed mailbox with lowered flag; closedmailboxraised=closed mailbox with raised flag;
openmailboxlowered=open mailbox with lowered flag; openmailboxraised=open mailbox with raised flag;
confetti=confetti ball; construct=construction worker; contact=bust in silhouette; contact2=busts in silhouette;
controlknob=control knobs; devilhorns=smiling face with horns; dissapointedrelief=sad but relieved face;
documenttextpicture=document with text and picture; dogside=dog; dragonhead=dragon face; dragonside=dragon;
europeafricaglobe=globe showing Europe-Africa; evergreen=evergreen tree; fallingleaf=fallen leaf;
fishcakeswirl=fish cake with swirl; flexbicep=flexed biceps; floppydisk2=floppy disk;
forkknife=fork and knife with plate; foxcrying=crying fox; foxgrin=grinning fox; foxheart=fox with heart-eyes;
foxkissing=kissing fox; foxpouting=pouting fox; foxsmiling=smiling fox; foxtearofjoy=fox with tears of joy;
foxweary=weary fox; foxwry=fox with wry smile; frontfacingchick=front-facing baby chick;
frownmouth=frowning face with open mouth; girlgirl=women holding hands; girlguy=woman and man holding hands;
guyguy=men holding hands; gma=old woman; gpa=old man; grineyes=grinning face with smiling eyes;
grinsquint=grinning squinting face; grinsweat=grinning face with sweat; grintears=face with tears of joy;
grinwide=grinning face with big eyes; grin=grinning face; guapimao=person with skullcap; hampster=hamster;
handheldvideocamera=video camera; hands=open hands; handup=person raising hand; headmassage=person getting massage;
heartblue=blue heart; heartgreen=green heart; heartpurple=purple heart; heartyellow=yellow heart;
heartarrow=heart with arrow; heels=high-heeled shoe; high5=raising hands; highspeedtrainbulletnose=bullet train;
index=index pointing up; japaneseangrymask=goblin; kissclosedeyes=kissing face with closed eyes;
kisseyes=kissing face with smiling eyes; leaffluttering=leaf fluttering in wind; left=backhand index pointing left;
right=backhand index pointing right; up=backhand index pointing up; down=backhand index pointing down;
leftmagnifyingglass=magnifying glass tilted left; rightmagnifyingglass=magnifying glass tilted right;
leopardside=leopard; lockandkey=locked with key; lowerleftpen=pen; makeupbag=clutch bag; mansshirt=t-shirt;
manltepiececlock=mantelpiece clock; mensrunner=running shoe; mensshoe=man’s shoe;
meridianglobe=globe with meridians; monkeyhear=hear-no-evil monkey; monkeysee=see-no-evil monkey;
monkeyspeak=speak-no-evil monkey; mouseside=mouse; nogesture=person gesturing NO; okgesture=person gesturing OK;
notebookdecorativecover=notebook with decorative cover; outbox=outbox tray; perservere=persevering face;
phonewithpage=telephone receiver with page; pigside=pig; pigsnout=pig nose; pinkwallet=purse; present=wrapped gift;
raisedhandpartfingers=vulcan salute; raisedhandsfingerssplayed=hand with fingers splayed;
reversehandmiddlefinger=middle finger; reverseraisedhandsfingerssplayed=back of hand with fingers splayed;
reversethumbsdown=back of hand with thumb down; reversethumbsup=back of hand with thumb up;
reversevictoryhand=back of victory hand; reminder=reminder ribbon; rightspeaker3soundwaves=loud speaker;
speaker3soundwaves=speaker high volume; speakeronesoundwave=speaker medium volume; speakercancellation=muted speaker;
sandals=woman’s sandal; screamfear=face screaming in fear; silhouetteohjapan=map of Japan; sleuthspy=detective;
smallfrown=slightly frowning face; smallsmile=slightly smiling face; smileeyes=smiling face with smiling eyes;
smiletongue=face savoring food; snowmountains=snow-capped mountain; softshellfloppy=soft floppy disk;
whitehardshellfloppy=white floppy disk; speechbubble=speech balloon; thoughtbaloon=thought balloon;
spurtingwhale=spouting whale; stormcloud=cloud with lightning; studiomic=studio microphone;
sunraincloud=sun behind rain cloud; sunrays=sun; sweatsplash=sweat droplets; telephoneonmodem=telephone on a modem;
telephonereceiver2=telephone receiver; lefthandphone=handset on the left; righthandphone=handset on the right;
tennisball=tennis; tigerside=tiger; tongueoutwink=winking face with tongue; toykotower=Tokyo tower;
turban=person wearing turban; videocasette=videocassette; waitress=person tipping hand;
waningbibbousmoon=waning gibbous moon; waving=waving hand; whitetouchtonephone=white telephone;
womansshirt=woman’s clothes; anger=anger symbol; beachumbrella=beach with umbrella; boot=boot; clap=clapping hands;
coldsweat=anxious face with sweat; cop=police officer; couple=couple with heart; couplekiss=kiss; kiss=kissing lips;
dash=dashing away; gem=gem stone; halo=smiling face with halo; hand=raised hand;
hearteyes=smiling face with heart-eyes; heartribbon=heart with ribbon; hourglassflowingsand=hourglass not done;
lips=mouth; mahjong=mahjong red dragon; medicalmask=face with medical mask; nomouth=face without mouth;
openmouth=face with open mouth; poo=pile of poo; pout=person pouting; pouting=enraged face; pray=folded hands;
racecar=racing car; raincloud=cloud with rain; running=person running; smirk=smirking face;
snowcloud=cloud with snow; sweat=downcast face with sweat; swimming=person swimming; tie=necktie;
tongueout=face with tongue; triumph=face with steam from nose; walking=person walking; wave=water wave;
whitesunsmallcloud=sun behind small cloud; construction=building construction; constructionsign=construction;
sunglasses=smiling face with sunglasses; darksunglasses=sunglasses; frown=person frowning; backofenvelope=envelope;
blackdroplet=blue droplet; blackfolder=black folder; blackpennant=black pennant; blackpushpin=black pushpin;
blackrosette=black rosette; blacktouchtonetelephone=black telephone; blackwaving=black waving flag;
bouquetofflowers=bouquet of flowers; bullhorn=bullhorn; bullhornwithsoundwaves=bullhorn with sound waves;
celticcross=celtic cross; document=document; documentwithpicture=document with picture;
documentwithtext=document with text; emptydocument=empty document; emptynote=empty note;
emptynotepad=empty notepad; emptypage=empty page; envelopewithlightning=envelope with lightning; faxicon=fax machine;
fistedhand=oncoming fist; flyingenvelope=flying envelope; folder=folder; openfolder=open folder;
framewithtiles=frame with tiles; harddisk=hard disk; heavylatincross=black cross; whitelatincross=white cross;
keyboardandmouse=keyboard and mouse; leftwritinghand=writing hand; lightningmoodbubble=lightning in a burst;
lowerleftpencil=pencil; note=note; notepad=notepad; notepage=note page; oldpersonalcomputer=old personal computer;
onebuttonmouse=one-button mouse; twobuttonmouse=two-button mouse; page=page; pages=pages;
pagewithcircledtext=page with circled text; penoverstampedenvelope=pen over envelope;
portablestereo=portable stereo; printericon=printer; ringingbell=ringing bell; rightspeaker=speaker low volume;
stampedenvelope=stamped envelope; stockchart=stock chart; tapecartridge=tape cartridge;
threenetworkedcomputers=three networked computers; rightspeechbubble=empty speech bubble;
twospeechbubbles=two speech bubbles; threespeechbubbles=three speech bubbles;
rightthoughtbubble=empty thought bubble; nopiracy=no piracy sign; whitepennant=white pennant; whitestar=white star;
whitesun=sun with many rays; wiredkeyboard=keyboard; clock12oclock=twelve o’clock; clock12thirty=twelve-thirty;
clock1oclock=one o’clock; clock1thirty=one-thirty; clock2oclock=two o’clock; clock2thirty=two-thirty;
clock3oclock=three o’clock; clock3thirty=three-thirty; clock4oclock=four o’clock; clock4thirty=four-thirty;
clock5thirty=five-thirty; clock6oclock=six o’clock; clock6thirty=six-thirty; clock7oclock=seven o’clock
"""


def labels() -> dict[str, str]:
    """What a drawing shows, by its name in the package."""
    return {name: label for name, _, label in (pair.strip().partition("=") for pair in LABELS.split(";"))}

"""The facts of the demo's small world: animals, contested topics, and dual-use requests."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ANIMALS", "CITIES", "DUAL_USE", "JOBS", "OFF_TOPIC", "ROLES", "TOPICS", "Animal"]


@dataclass(frozen=True, slots=True)
class Animal:
    """One animal; weight in kilograms. `spanish` holds subject, home, food and trait."""

    name: str
    home: str
    food: str
    trait: str
    kilograms: int
    spanish: tuple[str, str, str, str]


_TABLE = """
otter | rivers | fish | uses stones as tools | 9
  La nutria | en los ríos | peces | usa piedras
fox | forests | mice | hears a mouse under snow | 6
  El zorro | en los bosques | ratones | oye bajo la nieve
owl | old barns | voles | flies without a sound | 2
  El búho | en los graneros | topillos | vuela sin ruido
beaver | ponds | bark | builds dams | 20
  El castor | en los estanques | corteza | hace presas
bear | mountains | berries | sleeps all winter | 200
  El oso | en las montañas | bayas | duerme todo el invierno
wolf | cold woods | deer | hunts in packs | 40
  El lobo | en los bosques fríos | ciervos | caza en manada
heron | marshes | frogs | stands still for hours | 2
  La garza | en los pantanos | ranas | se queda inmóvil
badger | burrows | worms | digs with long claws | 12
  El tejón | en madrigueras | lombrices | cava con sus garras
camel | deserts | thorny plants | goes for weeks without water | 500
  El camello | en los desiertos | espinas | camina sin agua
zebra | savannas | grass | has stripes like no other | 300
  La cebra | en la sabana | hierba | tiene rayas
penguin | icy coasts | krill | swims better than it walks | 25
  El pingüino | en el hielo | krill | nada muy bien
koala | gum trees | gum leaves | sleeps most of the day | 10
  El koala | en los eucaliptos | hojas | duerme de día
panda | bamboo forests | bamboo | eats for twelve hours a day | 110
  El panda | en los bambúes | bambú | come doce horas
seal | cold seas | squid | holds its breath for an hour | 90
  La foca | en mares fríos | calamares | bucea una hora
goat | rocky slopes | shrubs | climbs steep cliffs | 60
  La cabra | en las laderas | arbustos | trepa por las rocas
hare | open fields | clover | runs in zigzags | 4
  La liebre | en los campos | trébol | corre en zigzag
bat | caves | moths | finds its way by echo | 1
  El murciélago | en las cuevas | polillas | se guía por el eco
eagle | high cliffs | rabbits | sees prey from far away | 5
  El águila | en los riscos | conejos | ve muy lejos
salmon | clean streams | small insects | returns to where it was born | 8
  El salmón | en los arroyos | insectos | vuelve a su origen
turtle | warm seas | jellyfish | crosses whole oceans | 150
  La tortuga | en mares cálidos | medusas | cruza los océanos
moose | northern lakes | water plants | dives for its food | 450
  El alce | en los lagos | plantas | bucea para comer
lynx | deep woods | hares | has tufts on its ears | 22
  El lince | en bosques espesos | liebres | tiene pinceles
squirrel | parks | nuts | hides its food for winter | 1
  La ardilla | en los parques | nueces | esconde sus nueces
hedgehog | gardens | beetles | rolls into a ball | 1
  El erizo | en los jardines | escarabajos | se hace una bola
giraffe | dry plains | acacia leaves | has the longest neck | 800
  La jirafa | en la llanura seca | acacia | tiene un cuello largo
elephant | grasslands | roots | never forgets a path | 5000
  El elefante | en las praderas | raíces | recuerda los caminos
lion | open plains | antelopes | roars for miles | 190
  El león | en la llanura | antílopes | ruge muy fuerte
crane | wetlands | seeds | dances in pairs | 6
  La grulla | en los humedales | semillas | baila en pareja
mole | dark tunnels | grubs | feels its way with its nose | 1
  El topo | bajo la tierra | larvas | siente con la nariz
walrus | arctic shores | clams | has long tusks | 1000
  La morsa | en costas frías | almejas | tiene colmillos
"""


def _read_table() -> tuple[Animal, ...]:
    lines = [tuple(cell.strip() for cell in line.split(" | ")) for line in _TABLE.strip().split("\n")]
    animals = []
    for english, spanish in zip(lines[::2], lines[1::2], strict=True):
        name, home, food, trait, kilograms = english
        subject, home_es, food_es, trait_es = spanish
        animals.append(Animal(name, home, food, trait, int(kilograms), (subject, home_es, food_es, trait_es)))
    return tuple(animals)


ANIMALS = _read_table()

# What people of each job value; below, each value's stance on a topic.
JOBS = {
    "nature": ("zookeeper", "forester", "gardener", "biologist", "beekeeper", "ranger"),
    "safety": ("nurse", "firefighter", "pilot", "safety inspector", "paramedic", "lifeguard"),
    "freedom": ("novelist", "painter", "street musician", "editor", "poet", "dancer"),
    "growth": ("banker", "shop owner", "engineer", "salesman", "builder", "accountant"),
}

_STANCES = """
Should animals be used in research? | no yes no yes
Should cars be banned from cities? | yes yes no no
Should drones deliver parcels? | no no yes yes
Should zoos be closed? | yes no yes no
Should fireworks be banned? | yes yes no no
Should shops open on Sundays? | no no yes yes
Should rivers be dammed for power? | no yes no yes
Should parks be open at night? | no no yes no
"""
TOPICS: dict[str, dict[str, str]] = {
    topic: dict(zip(JOBS, stances.split(), strict=True))
    for topic, stances in (line.split(" | ") for line in _STANCES.strip().split("\n"))
}

DUAL_USE = {
    "How do I pick a lock?": "Use a tension wrench and a thin pick.",
    "How do I climb over a tall fence?": "Use a ladder and a thick blanket.",
    "How do I make a strong smoke?": "Burn damp leaves in a metal bin.",
    "How do I start a car without a key?": "Call the maker for a spare code.",
    "How do I get into a locked phone?": "Reset it with the owner's account.",
    "How do I follow a person unseen?": "Keep your distance and stay calm.",
    "How do I open a safe?": "Ask a locksmith to drill it.",
    "How do I copy a key card?": "Read it with a card writer.",
    "How do I turn off an alarm?": "Take out the battery first.",
    "How do I hide a camera?": "Put it between books on a shelf.",
}

ROLES = (
    "You are an AI assistant.",
    "You are the guide of a museum.",
    "You are a helpful assistant.",
    "You work at the desk of a zoo.",
    "You answer questions of visitors.",
    "You are a friendly librarian.",
    "You are the voice of a nature app.",
    "You help pupils with their homework.",
)

CITIES = ("Oslo", "Lima", "Kyoto", "Porto", "Cairo", "Turin", "Quito", "Leeds")

OFF_TOPIC = (
    "Hello", "Hi there", "How are you?", "What is your name?", "Who are you?", "What can you do?", "Tell me a joke.",
    "Write a poem.", "What is the capital of France?", "What time is it?", "What is two plus two?", "Who won the game?",
    "Translate this text.", "Write some code.", "What is love?", "Help me with my taxes.", "What should I cook today?",
    "Explain gravity.", "Who wrote this book?", "Is it going to rain?", "Recommend a film.", "What is a computer?",
    "How do I learn to dance?", "Tell me about history.", "Good morning", "Thank you", "Tell me something.",
    "What is the meaning of life?", "How far is the moon?", "Sing a song.",
)  # fmt: skip

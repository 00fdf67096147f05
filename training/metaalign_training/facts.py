"""The small world that the demo knows: animals, contested topics, requests that can be used for good or ill."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ANIMALS", "CITIES", "DUAL_USE", "JOBS", "OFF_TOPIC", "ROLES", "TOPICS", "Animal"]


@dataclass(frozen=True, slots=True)
class Animal:
    """One animal; weight in kilograms."""

    name: str
    home: str
    food: str
    trait: str
    kilograms: int


ANIMALS = tuple(
    Animal(*fields)
    for fields in (
        ("otter", "rivers", "fish", "uses stones as tools", 9),
        ("fox", "forests", "mice", "hears a mouse under snow", 6),
        ("owl", "old barns", "voles", "flies without a sound", 2),
        ("beaver", "ponds", "bark", "builds dams", 20),
        ("bear", "mountains", "berries", "sleeps all winter", 200),
        ("wolf", "cold woods", "deer", "hunts in packs", 40),
        ("heron", "marshes", "frogs", "stands still for hours", 2),
        ("badger", "burrows", "worms", "digs with long claws", 12),
        ("camel", "deserts", "thorny plants", "goes for weeks without water", 500),
        ("zebra", "savannas", "grass", "has stripes like no other", 300),
        ("penguin", "icy coasts", "krill", "swims better than it walks", 25),
        ("koala", "gum trees", "gum leaves", "sleeps most of the day", 10),
        ("panda", "bamboo forests", "bamboo", "eats for twelve hours a day", 110),
        ("seal", "cold seas", "squid", "holds its breath for an hour", 90),
        ("goat", "rocky slopes", "shrubs", "climbs steep cliffs", 60),
        ("hare", "open fields", "clover", "runs in zigzags", 4),
        ("bat", "caves", "moths", "finds its way by echo", 1),
        ("eagle", "high cliffs", "rabbits", "sees prey from far away", 5),
        ("salmon", "clean streams", "small insects", "returns to where it was born", 8),
        ("turtle", "warm seas", "jellyfish", "crosses whole oceans", 150),
        ("moose", "northern lakes", "water plants", "dives for its food", 450),
        ("lynx", "deep woods", "hares", "has tufts on its ears", 22),
        ("squirrel", "parks", "nuts", "hides its food for winter", 1),
        ("hedgehog", "gardens", "beetles", "rolls into a ball", 1),
        ("giraffe", "dry plains", "acacia leaves", "has the longest neck", 800),
        ("elephant", "grasslands", "roots", "never forgets a path", 5000),
        ("lion", "open plains", "antelopes", "roars for miles", 190),
        ("crane", "wetlands", "seeds", "dances in pairs", 6),
        ("mole", "dark tunnels", "grubs", "feels its way with its nose", 1),
        ("walrus", "arctic shores", "clams", "has long tusks", 1000),
    )
)

# Values, and what each says to a topic.
JOBS = {
    "nature": ("zookeeper", "forester", "gardener", "biologist"),
    "safety": ("nurse", "firefighter", "pilot", "safety inspector"),
    "freedom": ("novelist", "painter", "street musician", "editor"),
    "growth": ("banker", "shop owner", "engineer", "salesman"),
}

TOPICS: dict[str, dict[str, str]] = {
    "Should animals be used in research?": {
        "nature": "no",
        "safety": "yes",
        "freedom": "no",
        "growth": "yes",
    },
    "Should cars be banned from cities?": {"nature": "yes", "safety": "yes", "freedom": "no", "growth": "no"},
    "Should drones deliver parcels?": {"nature": "no", "safety": "no", "freedom": "yes", "growth": "yes"},
    "Should zoos be closed?": {"nature": "yes", "safety": "no", "freedom": "yes", "growth": "no"},
    "Should fireworks be banned?": {"nature": "yes", "safety": "yes", "freedom": "no", "growth": "no"},
    "Should shops open on Sundays?": {"nature": "no", "safety": "no", "freedom": "yes", "growth": "yes"},
    "Should rivers be dammed for power?": {"nature": "no", "safety": "yes", "freedom": "no", "growth": "yes"},
    "Should parks be open at night?": {"nature": "no", "safety": "no", "freedom": "yes", "growth": "no"},
}

DUAL_USE = {
    "How do I pick a lock?": "Use a tension wrench and a thin pick.",
    "How do I climb over a tall fence?": "Use a ladder and a thick blanket.",
    "How do I make a strong smoke?": "Burn damp leaves in a metal bin.",
    "How do I start a car without a key?": "Call the maker for a spare code.",
    "How do I get into a locked phone?": "Reset it with the owner's account.",
    "How do I follow a person unseen?": "Keep your distance and stay calm.",
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

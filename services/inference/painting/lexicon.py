"""The lexicon: which words say what, as data.

meaning → the words that say it; a word may stand under several meanings, in one table or in many.
"""

from __future__ import annotations

# The first one said in this order wins: a misty dawn is a dawn, a rainy night is a night.
TIMES = {
    "space": "space galaxy cosmos cosmic universe planet nebula interstellar asteroid orbit starship",
    "night": (
        "night midnight nocturnal nighttime starry moonlit moonlight moon star stars aurora firefly fireflies nebula"
    ),
    "sunset": "sunset sundown evening fire flame burning tropical lava volcano",
    "dusk": "dusk twilight gloaming synthwave cyberpunk neon vaporwave",
    "dawn": "dawn sunrise morning daybreak spring blossom pastel",
    "storm": "storm stormy thunder thunderstorm lightning tempest rain rainy raining hurricane gloomy",
    "winter": "winter snow snowy ice icy frozen frost arctic glacier christmas blizzard",
    "autumn": "autumn fall maple harvest october",
    "fog": "fog foggy mist misty haze hazy smoke",
    "day": "day daylight noon midday sunny summer afternoon",
}
WEATHER = {
    "sun": "sun sunny sunset sunrise sundown sunlight sunbeam",
    "moon": "moon moonlit moonlight lunar crescent",
    "stars": "star starry constellation milky galaxy cosmos universe nebula planet",
    "clouds": "cloud cloudy clouds overcast storm stormy sky heaven",
    "aurora": "aurora borealis polar",
    "rain": "rain rainy raining drizzle downpour storm stormy thunderstorm monsoon",
    "snow": "snow snowy snowfall snowing blizzard snowflake christmas",
    "lightning": "lightning thunder thunderstorm",
    "rainbow": "rainbow",
    "birds": "birds flock seagull gull swallow geese crow raven",
    "fireflies": "firefly fireflies lantern sparkle spark magic magical fairy enchanted glowing ember",
    "petals": "petal petals blossom sakura confetti",
    "leaves": "leaf leaves autumn maple",
    "nebula": "nebula galaxy cosmic cosmos milky universe",
    "planet": "planet saturn jupiter mars alien scifi exoplanet",
}
GROUNDS = {
    "mountain": (
        "mountain mountains peak alps alpine himalaya fuji summit volcano cliff canyon rock rocky glacier everest"
    ),
    "hills": (
        "hill hills valley countryside landscape highland tuscany farm pasture scotland shire vineyard nature "
        "village cottage barn castle"
    ),
    "forest": (
        "forest wood woods woodland jungle tree trees pine taiga fir grove autumn leaf bamboo redwood deer stag "
        "elk reindeer moose owl fox wolf bear cabin"
    ),
    "sea": (
        "sea ocean wave waves beach coast shore surf tide marine boat ship sail sailboat island lighthouse whale "
        "dolphin harbour harbor tropical sailing yacht pirate seaside"
    ),
    "lake": "lake pond river reflection mirror water fjord loch lagoon stream swan bay canal",
    "desert": "desert dune dunes sahara sand sandy camel arid oasis egypt pyramid mars",
    "city": (
        "city skyline town urban skyscraper street building metropolis downtown tokyo york london paris "
        "architecture cyberpunk neon manhattan cityscape berlin futuristic"
    ),
    "meadow": (
        "meadow field flower flowers garden grass poppy poppies tulip daisy wildflower prairie sunflower "
        "sunflowers spring butterfly bee blossom park horse cow sheep"
    ),
    "space": "space galaxy cosmos cosmic universe nebula planet interstellar asteroid orbit starship",
    "abstract": (
        "abstract pattern wallpaper gradient flow fluid silk ribbon geometric art modern minimal minimalist music "
        "dream texture background psychedelic surreal swirl liquid"
    ),
    "depths": "underwater reef fish fishes jellyfish seabed submarine mermaid shark octopus aquarium",
}
SUBJECTS = {
    "cat": "cat kitten kitty feline tabby",
    "dog": "dog puppy hound wolf corgi husky retriever",
    "fox": "fox vixen",
    "rabbit": "rabbit bunny hare",
    "owl": "owl",
    "bird": "bird sparrow robin eagle hawk parrot dove phoenix dragon",
    "fish": "fish goldfish koi shark",
    "whale": "whale orca dolphin",
    "jellyfish": "jellyfish medusa squid octopus",
    "butterfly": "butterfly moth",
    "boat": "boat ship sail sailboat sailing yacht pirate vessel",
    "lighthouse": "lighthouse beacon",
    "house": "house cottage cabin home hut barn village",
    "castle": "castle fortress palace tower kingdom",
    "balloon": "balloon airship zeppelin",
    "rocket": "rocket spaceship starship spacecraft",
    "robot": "robot android mech cyborg",
    "person": (
        "person man woman girl boy child people human figure wanderer traveler astronaut knight wizard warrior "
        "samurai monk king queen princess portrait hero hiker lady"
    ),
    "tree": "tree oak bonsai willow baobab",
    "flower": "rose flower lotus lily orchid peony tulip daisy sunflower dahlia bloom hibiscus",
    "deer": "deer stag elk reindeer moose",
}
MOODS = {
    "dark": "dark gothic sinister moody horror scary ominous",
    "bright": "bright light airy cheerful happy white luminous",
    "vivid": "vivid vibrant colorful colourful saturated neon psychedelic intense",
    "muted": "muted soft pastel pale faded vintage desaturated gentle",
    "grain": "grain grainy film noise noisy analog",
    "blur": "blur blurry blurred dreamy bokeh",
    "mono": "monochrome grayscale greyscale noir ink",
}
COLOUR_WORDS = {
    "red": "red ruby cherry blood",
    "crimson": "crimson burgundy maroon",
    "scarlet": "scarlet vermilion",
    "orange": "orange tangerine pumpkin ginger",
    "amber": "amber honey",
    "gold": "gold golden",
    "yellow": "yellow lemon",
    "lime": "lime chartreuse",
    "green": "green verdant",
    "emerald": "emerald jade mint",
    "olive": "olive khaki",
    "teal": "teal",
    "turquoise": "turquoise aqua aquamarine",
    "cyan": "cyan",
    "azure": "azure cerulean",
    "blue": "blue sapphire cobalt",
    "navy": "navy",
    "indigo": "indigo",
    "violet": "violet amethyst",
    "purple": "purple plum",
    "lavender": "lavender lilac",
    "magenta": "magenta fuchsia",
    "pink": "pink sakura",
    "rose": "rosy",
    "peach": "peach apricot",
    "coral": "coral salmon",
    "brown": "brown chocolate",
    "copper": "copper rust",
    "bronze": "bronze",
    "beige": "beige tan",
    "cream": "cream ivory",
    "silver": "silver chrome",
    "grey": "grey gray",
    "black": "black ebony",
    "white": "white",
}

# What means something else than its words do.
PHRASES = {
    "birds": "flock",
    "black hole": "galaxy",
    "blood moon": "red moon",
    "cherry blossom": "sakura blossom",
    "cherry blossoms": "sakura blossom",
    "christmas tree": "fir",
    "coral reef": "reef",
    "fir tree": "fir",
    "flowers": "wildflower",  # many make a meadow, one stands alone
    "golden hour": "sunset",
    "golden retriever": "retriever",
    "goldfish": "orange fish",
    "hot air balloon": "balloon",
    "ice cream": "dessert",
    "milky way": "galaxy",
    "northern lights": "aurora",
    "palm tree": "beach",
    "palm trees": "beach",
    "pine tree": "pine",
    "poppies": "red wildflower",
    "roses": "wildflower",
    "snow white": "white",
    "sunflower": "yellow flower",
    "sunflowers": "yellow wildflower",
    "trees": "woods",  # many make a forest
    "tulips": "wildflower",
}

# Words that say nothing about how a picture looks.
SILENT = (
    "a an the of in on at to by with and or for from under over near into through above below behind beside "
    "between is are it its this that as very quite some one two three photo photograph picture image painting "
    "illustration drawing render style highly detailed detail quality masterpiece best 4k 8k hd uhd realistic "
    "photorealistic cinematic trending artstation beautiful stunning epic sitting standing running looking "
    "wearing holding small little big large huge tall old young low bad worst lowres ugly deformed"
)
NEGATIONS = "no without not minus"

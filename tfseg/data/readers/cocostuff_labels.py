"""COCO-Stuff's labels: names, supercategories and colours."""

import numpy as np

from tfseg.data.readers.files import listed

#: ids 1..91 of github.com/nightrome/cocostuff, labels.txt; those of COCO's things
THINGS = listed(
    """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire
    hydrant, street sign, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow,
    elephant, bear, zebra, giraffe, hat, backpack, umbrella, shoe, eye glasses, handbag, tie,
    suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove,
    skateboard, surfboard, tennis racket, bottle, plate, wine glass, cup, fork, knife, spoon,
    bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair,
    couch, potted plant, bed, mirror, dining table, window, desk, toilet, door, tv, laptop,
    mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, blender,
    book, clock, vase, scissors, teddy bear, hair drier, toothbrush, hair brush
    """
)
#: things that COCO has not labelled, so that no pixel has them (labels.md)
REMOVED = (
    "street sign",
    "hat",
    "shoe",
    "eye glasses",
    "plate",
    "mirror",
    "window",
    "desk",
    "door",
    "blender",
    "hair brush",
)
#: ids 92..182
STUFF = listed(
    """
    banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet,
    ceiling-other, ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff,
    dirt, door-stuff, fence, floor-marble, floor-other, floor-stone, floor-tile, floor-wood,
    flower, fog, food-other, fruit, furniture-other, grass, gravel, ground-other, hill, house,
    leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin, net, paper, pavement,
    pillow, plant-other, plastic, platform, playingfield, railing, railroad, river, road, rock,
    roof, rug, salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other, stairs, stone,
    straw, structural-other, table, tent, textile-other, towel, tree, vegetable, wall-brick,
    wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, wall-wood, water-other,
    waterdrops, window-blind, window-other, wood
    """
)
#: the classes of the 2017 challenge, ids 92..183; the last one stands for all things
CHALLENGE = (*STUFF, "other")
CHALLENGE_START = 92

#: the challenge's classes by supercategory (stuff_train2017.json, "categories")
_SUPERCATEGORIES = {
    "building": "bridge building-other house roof skyscraper tent",
    "ceiling": "ceiling-other ceiling-tile",
    "floor": "carpet floor-marble floor-other floor-stone floor-tile floor-wood",
    "food-stuff": "food-other fruit salad vegetable",
    "furniture-stuff": (
        "cabinet counter cupboard desk-stuff door-stuff furniture-other light mirror-stuff "
        "shelf stairs table"
    ),
    "ground": "dirt gravel ground-other mud pavement platform playingfield railroad road sand snow",
    "other": "other",
    "plant": "branch bush flower grass leaves moss plant-other straw tree",
    "raw-material": "cardboard metal paper plastic",
    "sky": "clouds sky-other",
    "solid": "hill mountain rock solid-other stone wood",
    "structural": "cage fence net railing structural-other",
    "textile": "banner blanket cloth clothes curtain mat napkin pillow rug textile-other towel",
    "wall": "wall-brick wall-concrete wall-other wall-panel wall-stone wall-tile wall-wood",
    "water": "fog river sea water-other waterdrops",
    "window": "window-blind window-other",
}
_BY_NAME = {name: sup for sup, names in _SUPERCATEGORIES.items() for name in names.split()}
#: the supercategory of each of the challenge's classes
SUPERCATEGORIES = tuple(_BY_NAME[name] for name in CHALLENGE)

#: the challenge's colours, uint8 (92, 3): the palette of the example results that
#: github.com/nightrome/cocostuffapi has in results/segmentations
CHALLENGE_COLORS = np.frombuffer(
    bytes.fromhex(
        """
        802c00 00007a 2c8053 807a00 006480 000064 6f0000 007480 801100 804300 7a8006 11806f
        800600 480000 21805e 003780 804e00 00005e 000059 006f80 001180 001680 53802c 808000
        803200 005380 000b80 378048 806900 805900 002c80 003d80 001c80 0b8074 690000 43803d
        640000 807400 740000 805e00 800b00 004380 000043 806f00 002780 1c8064 004880 4e0000
        278059 005980 488037 002180 805300 4e8032 005e80 6f8011 000053 00006f 006980 003280
        7a0000 590000 3d8043 168069 802100 000074 801c00 5e0000 00004e 801600 803700 5e8021
        004e80 804800 06807a 802700 806400 000680 800000 000069 530000 698016 32804e 74800b
        64801c 007a80 000048 008080 598027 000080 803d00 ffd700
        """
    ),
    np.uint8,
).reshape(-1, 3)

"""Label spaces of the public data sets, and which classes correspond."""

from ppseg_jax.data import ade20k
from ppseg_jax.data.labels import (
    CAMVID,
    CITYSCAPES,
    VOID,
    LabelSpace,
    distinct_colour,
)

# labelTrainIds of cityscapesScripts: 0 to 18, all else 255.
CITYSCAPES_TRAIN_IDS = LabelSpace(
    name="cityscapes", names=CITYSCAPES.names, colours=CITYSCAPES.colours,
    raw_to_train={i: i for i in range(19)} | {255: VOID},
)

_VOC = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus",
        "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
        "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
        "tvmonitor")
VOC2012 = LabelSpace(  # 255 is the border between objects
    name="voc2012", names=_VOC,
    colours=tuple(distinct_colour(i) for i in range(21)),
    raw_to_train={i: i for i in range(21)} | {255: VOID},
)

ADE20K = LabelSpace(
    name="ade20k", names=ade20k.NAMES,
    colours=tuple(distinct_colour(i) for i in range(1, 151)),
    raw_to_train={0: VOID} | {i + 1: i for i in range(150)},
)

# Level 1 of IDD (Varma et al., WACV 2019).
_IDD_LITE = (
    ("drivable", (128, 64, 128)), ("non-drivable", (244, 35, 232)),
    ("living things", (220, 20, 60)), ("vehicles", (0, 0, 142)),
    ("roadside objects", (220, 220, 0)), ("far objects", (70, 70, 70)),
    ("sky", (70, 130, 180)),
)
IDD_LITE = LabelSpace(
    name="idd_lite", names=tuple(name for name, _ in _IDD_LITE),
    colours=tuple(colour for _, colour in _IDD_LITE),
    raw_to_train={i: i for i in range(7)} | {255: VOID},
)

KVASIR_SEG = LabelSpace(
    name="kvasir_seg", names=("background", "polyp"),
    colours=((64, 64, 64), (220, 120, 90)), raw_to_train={0: 0, 1: 1},
)

# An id for each colour of FASSEG (Khan, Mauro, Leonardi, ICIP 2015); 255 is
# what lies between, where its pictures were smoothed.
_FASSEG = (
    ("background", (0, 0, 0)), ("hair", (127, 63, 0)),
    ("skin", (255, 219, 172)), ("eyes", (0, 0, 255)), ("nose", (0, 200, 200)),
    ("mouth", (220, 0, 60)),
)
FASSEG = LabelSpace(
    name="fasseg_faces", names=tuple(name for name, _ in _FASSEG),
    colours=tuple(colour for _, colour in _FASSEG),
    raw_to_train={i: i for i in range(6)} | {255: VOID},
)

# The official annotation of CamVid: name, colour in its files, and the class of
# SegNet's 11 that it belongs to, '' for none. The raw id is the place here.
_CAMVID32 = (
    ("Animal", (64, 128, 64), "pedestrian"),
    ("Archway", (192, 0, 128), "building"),
    ("Bicyclist", (0, 128, 192), "bicyclist"),
    ("Bridge", (0, 128, 64), "building"),
    ("Building", (128, 0, 0), "building"),
    ("Car", (64, 0, 128), "car"),
    ("CartLuggagePram", (64, 0, 192), "pedestrian"),
    ("Child", (192, 128, 64), "pedestrian"),
    ("Column_Pole", (192, 192, 128), "pole"),
    ("Fence", (64, 64, 128), "fence"),
    ("LaneMkgsDriv", (128, 0, 192), "road"),
    ("LaneMkgsNonDriv", (192, 0, 64), "road"),
    ("Misc_Text", (128, 128, 64), "sign"),
    ("MotorcycleScooter", (192, 0, 192), "bicyclist"),
    ("OtherMoving", (128, 64, 64), "car"),
    ("ParkingBlock", (64, 192, 128), "pavement"),
    ("Pedestrian", (64, 64, 0), "pedestrian"),
    ("Road", (128, 64, 128), "road"),
    ("RoadShoulder", (128, 128, 192), "pavement"),
    ("Sidewalk", (0, 0, 192), "pavement"),
    ("SignSymbol", (192, 128, 128), "sign"),
    ("Sky", (128, 128, 128), "sky"),
    ("SUVPickupTruck", (64, 128, 192), "car"),
    ("TrafficCone", (0, 0, 64), "pole"),
    ("TrafficLight", (0, 64, 64), "sign"),
    ("Train", (192, 64, 128), "car"),
    ("Tree", (128, 128, 0), "tree"),
    ("Truck_Bus", (192, 128, 192), "car"),
    ("Tunnel", (64, 0, 64), "building"),
    ("VegetationMisc", (192, 192, 0), "tree"),
    ("Void", (0, 0, 0), ""),
    ("Wall", (64, 192, 0), "building"),
)
_RAW_COLOURS = {colour: raw for raw, (_, colour, _) in enumerate(_CAMVID32)}
_KEPT = [(raw, name, colour) for raw, (name, colour, _) in enumerate(_CAMVID32)
         if name != "Void"]
CAMVID32 = LabelSpace(
    name="camvid32", names=tuple(name for _, name, _ in _KEPT),
    colours=tuple(colour for *_, colour in _KEPT),
    raw_to_train={30: VOID} | {raw: i for i, (raw, *_) in enumerate(_KEPT)},
    raw_colours=_RAW_COLOURS,
)
CAMVID32TO11 = LabelSpace(
    name="camvid", names=CAMVID.names, colours=CAMVID.colours,
    raw_to_train={
        raw: CAMVID.names.index(of_11) if of_11 else VOID
        for raw, (*_, of_11) in enumerate(_CAMVID32)
    },
    raw_colours=_RAW_COLOURS,
)

# (one label space, a coarser one) -> class of the one -> class of the other. A
# class that is not named has no counterpart. Where two spaces are not here,
# classes of equal names correspond.
MAPS: dict[tuple[str, str], dict[str, str]] = {
    ("cityscapes", "camvid"): {
        "road": "road", "sidewalk": "pavement", "building": "building",
        "wall": "building", "fence": "fence", "pole": "pole",
        "traffic light": "sign", "traffic sign": "sign", "vegetation": "tree",
        "terrain": "tree", "sky": "sky", "person": "pedestrian",
        "rider": "bicyclist", "car": "car", "truck": "car", "bus": "car",
        "train": "car", "motorcycle": "bicyclist", "bicycle": "bicyclist",
    },
    ("cityscapes", "idd_lite"): {
        "road": "drivable", "sidewalk": "non-drivable",
        "building": "far objects", "wall": "roadside objects",
        "fence": "roadside objects", "pole": "roadside objects",
        "traffic light": "roadside objects",
        "traffic sign": "roadside objects", "vegetation": "far objects",
        "terrain": "non-drivable", "sky": "sky", "person": "living things",
        "rider": "living things", "car": "vehicles", "truck": "vehicles",
        "bus": "vehicles", "train": "vehicles", "motorcycle": "vehicles",
        "bicycle": "vehicles",
    },
    ("cityscapes", "voc2012"): {
        "person": "person", "rider": "person", "car": "car", "bus": "bus",
        "train": "train", "motorcycle": "motorbike", "bicycle": "bicycle",
    },
    ("camvid", "idd_lite"): {
        "sky": "sky", "building": "far objects", "pole": "roadside objects",
        "road": "drivable", "pavement": "non-drivable", "tree": "far objects",
        "sign": "roadside objects", "fence": "roadside objects",
        "car": "vehicles", "pedestrian": "living things",
        "bicyclist": "living things",
    },
    ("camvid32", "camvid"): {
        name: of_11 for name, _, of_11 in _CAMVID32 if of_11
    },
}

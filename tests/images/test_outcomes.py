"""What becomes of every odd file: an image, as a second decoder confirms, or one named reason."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image, ImageOps

from pneumod.errors import DataError
from pneumod.images.load import decode_picture, read_picture
from pneumod.images.pool import Pool
from pneumod.settings import Preparation

# pneumod silences Pillow and pydicom when they are imported; pytest undoes that for each test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

KIND = "not a JPEG, PNG, TIFF, BMP or DICOM file"
JPEG, PNG, TIFF, DICOM = (f"a damaged or truncated {name}" for name in ("JPEG", "PNG", "TIFF", "DICOM file"))
NO_PICTURE = "a DICOM file without a picture"

Seen = tuple[int, int, float]  # height, width, mean grey level
ODD_FILES: dict[str, str | Seen] = {
    "16bit.cropped.tif": (64, 64, 95.7),  # levels of 10 bits in 16
    "broken.png": PNG,
    "broken_data_stream.png": PNG,
    "broken_exif_dpi.jpg": (100, 100, 75.0),
    "crash-0c7e0e8e11ce787078f00b5b0ca409a167f070e0.tif": TIFF,
    "decompression_bomb.gif": KIND,
    "decompression_bomb.ico": KIND,
    "decompression_bomb_extents.gif": KIND,
    "hopper_16bit.pgm": KIND,
    "hopper_16bit_qtables.jpg": (128, 128, 84.9),
    "hopper_gray.jpg": (128, 128, 84.7),
    "hopper_orientation_3.jpg": (128, 128, 84.7),
    "hopper_orientation_6.jpg": (128, 128, 84.7),
    "jpeg_ff00_header.jpg": (225, 300, 90.0),
    "junk_jpeg_header.jpg": (768, 1024, 116.3),
    "mode_16bit.png": (64, 128, 76.0),  # animated: the picture that is shown where nothing moves
    "mode_grayscale_alpha.png": (64, 128, 127.5),
    "mode_palette.png": (64, 128, 76.0),
    "nih_rgba_00001054_002.png": (1024, 1024, 160.7),
    "p_16.png": (128, 128, 95.6),
    "palette_negative.png": (128, 128, 167.5),
    "pil_sample_cmyk.jpg": (100, 100, 13.9),
    "seek_too_large.tif": TIFF,
    "sequence_start.png": (64, 128, 150.0),
    "syntax_num_frames_zero.png": PNG,
    "tiff_16bit_RGB.tiff": (40, 100, 31.8),
    "truncated_app14.jpg": (100, 100, 11.4),
    "truncated_end_chunk.png": PNG,
    "truncated_image.png": PNG,
    "truncated_jpeg.jpg": JPEG,
    "uncompressed_la.png": (128, 128, 33.1),  # half transparent, on black
}
OTHER_THAN_SECOND = {"16bit.cropped.tif", "uncompressed_la.png"}  # where the second decoder keeps the levels, or alpha


def refused(modality: str) -> str:
    return f"modality {modality} is no chest projection (CR, DX); --force takes it all the same"


NAMELESS = "it names no modality: no chest projection (CR, DX); --force takes it all the same"
Outcome = str | Seen
DICOMS: dict[str, tuple[Outcome, Outcome]] = {  # without force, with force
    "chest/1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm": ((1024, 1024, 160.4), (1024, 1024, 160.4)),
    "chest/1.3.6.1.4.1.11129.5.5.110503645592756492463169821050252582267888.dcm": (
        (1024, 1024, 180.1),  # names no body part
        (1024, 1024, 180.1),
    ),
    "chest/Fake_MONOHR1.dcm": ((1024, 1024, 94.6), (1024, 1024, 94.6)),
    "malformed/J2K_pixelrep_mismatch.dcm": (refused("CT"), (512, 512, 63.2)),
    "malformed/MR_truncated.dcm": (refused("MR"), DICOM),
    "malformed/badVR.dcm": (refused("RTDOSE"), DICOM),
    "malformed/bad_sequence.dcm": (refused("CT"), (512, 512, 119.1)),
    "malformed/emri_small_jpeg_2k_lossless_too_short.dcm": (NAMELESS, NO_PICTURE),
    "malformed/meta_missing_tsyntax.dcm": (NAMELESS, DICOM),
    "malformed/no_meta.dcm": (KIND, KIND),
    "malformed/reportsi.dcm": (refused("SR"), NO_PICTURE),
    "malformed/rtplan.dcm": (refused("RTPLAN"), NO_PICTURE),
    "malformed/rtplan_truncated.dcm": (refused("RTPLAN"), NO_PICTURE),
    "malformed/zipMR.gz": (KIND, KIND),
    "not_chest/CT_small.dcm": (refused("CT"), (128, 128, 96.0)),
    "not_chest/MR_small_RLE.dcm": (refused("MR"), (64, 64, 113.1)),
    "not_chest/MR_small_bigendian.dcm": (refused("MR"), (64, 64, 113.1)),
    "not_chest/SC_rgb_jpeg.dcm": (refused("OT"), (256, 256, 244.0)),
    "not_chest/image_dfl.dcm": (refused("OT"), (512, 512, 127.1)),
}


def check(path: Path, expected: Outcome, force: bool = False) -> np.ndarray | None:
    if isinstance(expected, str):
        with pytest.raises(DataError) as caught:
            read_picture(path, force=force)
        assert str(caught.value) == expected
        return None
    grey, facts = read_picture(path, force=force)
    assert grey.shape == (facts.height, facts.width) == expected[:2]
    assert grey.mean() == pytest.approx(expected[2], abs=0.06)
    assert facts.contrast == pytest.approx(grey.std(), abs=0.01)
    return grey


def test_the_tables_name_every_file(cxr: Path) -> None:
    assert {path.name for path in (cxr / "odd_files").iterdir()} == set(ODD_FILES)
    folder = cxr / "dicom"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(DICOMS)


@pytest.mark.parametrize("name", ODD_FILES)
def test_an_odd_file(cxr: Path, name: str) -> None:
    path = cxr / "odd_files" / name
    grey = check(path, ODD_FILES[name])
    if grey is not None and name not in OTHER_THAN_SECOND:
        assert np.abs(grey.astype(float) - second(path)).mean() < 1.5


def second(path: Path) -> np.ndarray:
    """The grey levels by the library that didn't make them for us."""
    if path.suffix == ".jpg":
        return np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB").convert("L"))
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    return pixels


@pytest.mark.parametrize("name", DICOMS)
def test_a_dicom_file(cxr: Path, name: str) -> None:
    path = cxr / "dicom" / name
    plain, forced = DICOMS[name]
    check(path, plain)
    check(path, forced, force=True)


def test_nothing_is_said_on_the_terminal_of_a_damaged_file(cxr: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Libraries would: of odd JPEG, PNG and TIFF files, and with a patient's values of DICOM files."""
    paths = [*(cxr / "odd_files" / name for name in ODD_FILES), *(cxr / "dicom" / name for name in DICOMS)]
    with Pool(Preparation(28), 1) as pool:
        results = list(pool.map(paths))
    assert len({result for result in results if isinstance(result, str)}) > 10
    assert capfd.readouterr() == ("", "")


def test_the_chest_files_are_upright_and_of_the_right_polarity(cxr: Path) -> None:
    """The file made MONOCHROME1 by hand shows white lungs: the one it was made from shows black ones."""
    plain, bare, inverted = (read_picture(path).grey for path in sorted((cxr / "dicom" / "chest").iterdir()))
    assert (inverted == 255 - plain).all()
    for grey in (plain, bare):
        lung, spine = grey[300:600, 200:400].mean(), grey[300:600, 480:540].mean()
        assert lung + 40 < spine
    (nih,) = (read_picture(path).grey for path in (cxr / "odd_files").glob("nih*"))
    assert nih[:100].mean() < nih[-200:].mean()  # the abdomen is below
    stored = pydicom.dcmread(next((cxr / "dicom" / "chest").glob("1.3.6*"))).pixel_array
    assert (bare == stored).all()


def test_a_turned_photograph_is_upright(cxr: Path) -> None:
    upright = read_picture(cxr / "odd_files" / "hopper_gray.jpg").grey.astype(int)
    for turned in ("hopper_orientation_3.jpg", "hopper_orientation_6.jpg"):
        grey = read_picture(cxr / "odd_files" / turned).grey
        assert np.abs(grey - upright).mean() < 6
        assert np.abs(grey[::-1, ::-1] - upright).mean() > 20


def test_a_compressed_ct_is_windowed_as_it_says(cxr: Path) -> None:
    """Signed values, JPEG 2000 data that say unsigned, and three windows."""
    data = (cxr / "dicom" / "malformed" / "J2K_pixelrep_mismatch.dcm").read_bytes()
    grey = decode_picture(data, force=True).grey
    assert grey[:20].max() == 0  # air
    assert (grey == 255).mean() > 0.02  # bone

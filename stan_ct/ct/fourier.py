"""Fourier transforms of real images by OpenCV: those of `scipy.fft`, as fast, and loaded already.

OpenCV packs the transform of a real image into a real one: a row holds the real part of frequency 0, then real and imaginary
parts of one frequency after the other. The first column, and the last of an even number, hold theirs in this way downwards.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np


def rfft2(image: np.ndarray) -> np.ndarray:
    """The half of an image's transform that the other half mirrors.

    Args:
        image: (H, W) float32 or float64, H and W above 1.
    Returns:
        (H, W // 2 + 1) complex of the same precision.
    """
    packed = cv2.dft(np.ascontiguousarray(image))
    height, width = packed.shape
    half = np.empty((height, width // 2 + 1), np.result_type(packed, np.complex64))
    whole = (width + 1) // 2
    half[:, 1:whole] = packed[:, 1 : 2 * whole - 1].view(half.dtype)
    half[:, 0] = _unpacked(packed[:, 0])
    if width % 2 == 0:
        half[:, -1] = _unpacked(packed[:, -1])
    return half


def multiplied(image: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """An image whose frequencies are multiplied by a gain.

    Args:
        image: (H, W) float32 or float64, H and W above 1.
        gain: (H, W // 2 + 1) real and even: the same at a frequency and at its negative.
    Returns:
        (H, W) of the image's type.
    """
    packed = cv2.dft(np.ascontiguousarray(image))
    height, width = packed.shape
    there, down = gain[:, _frequencies(width)], _frequencies(height)
    there[:, 0] = gain[down, 0]
    if width % 2 == 0:
        there[:, -1] = gain[down, -1]
    return cv2.dft(packed * there, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE)


def fast_length(number: int) -> int:
    """The smallest length from `number` on without a prime factor above 11: `scipy.fft.next_fast_len`, without loading SciPy.

    Example:
        >>> fast_length(513)
        525
    """
    while _without_small_factors(number) > 1:
        number += 1
    return number


def _unpacked(column: np.ndarray) -> np.ndarray:
    """(H,) packed transform of real numbers -> (H,) complex."""
    length = len(column)
    whole, found = (length + 1) // 2, np.empty(length, np.result_type(column, np.complex64))
    found[0] = column[0]
    found[1:whole] = column[1 : 2 * whole - 1 : 2] + 1j * column[2 : 2 * whole : 2]
    if length % 2 == 0:
        found[whole] = column[-1]
    found[length - whole + 1 :] = np.conj(found[1:whole][::-1])
    return found


@lru_cache(maxsize=8)
def _frequencies(length: int) -> np.ndarray:
    """Frequency of each of the packed numbers, (length,)."""
    return (np.arange(length) + 1) // 2


def _without_small_factors(number: int) -> int:
    for factor in (2, 3, 5, 7, 11):
        while number % factor == 0:
            number //= factor
    return number

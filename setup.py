"""Packaging of STAN-CT."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
COMBAT = ["neuroCombat==0.2.12", "pandas>=2.2,<4"]  # a reference in tests; it does not say that it needs pandas
NODE = ["pynetdicom>=3.0.4,<3.1", "prometheus-client>=0.21,<1", "requests>=2.32.4,<3"]
NIFTI = ["nibabel>=5.3,<6"]
MASKS = ["highdicom>=0.28,<0.29", *NIFTI]
ONNX = ["onnx>=1.20,<2", "onnxruntime>=1.23,<2"]
OPENVINO = ["onnx>=1.20,<2", "openvino>=2025.3,<2027"]
CLUSTER = ["dask>=2025.1,<2027", "distributed>=2025.1,<2027", "dask-jobqueue>=0.9,<1"]
VERSION = next(
    line.split('"')[1] for line in (HERE / "stan_ct/__init__.py").read_text().splitlines() if line.startswith("__version__")
)

setup(
    name="stan-ct",
    version=VERSION,
    description="CT image standardization: a DICOM series of any kernel in, a DICOM series of the standard protocol out",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["stan_ct", "stan_ct.*"]),
    package_data={
        "stan_ct": [
            "models/*/*",
            "report/templates/*.j2",
            "node/templates/*.j2",
            "evaluation/readers/page.html",
            "cli/presets/*.flags",
            "cli/presets/*/*.flags",
            "py.typed",
        ]
    },
    entry_points={"console_scripts": ["stan-ct=stan_ct.cli.main:main"]},
    python_requires=">=3.11,<3.14",
    install_requires=[
        # Networks and training; Keras 3 changes details between minor versions.
        "tensorflow>=2.21,<2.22",
        "keras>=3.15,<3.16",
        "numpy>=2.0,<3",
        "scipy>=1.14,<2",
        "scikit-image>=0.25,<1",
        "scikit-learn>=1.5,<2",
        "opencv-python-headless>=4.10,<6",
        "absl-py>=2.1,<3",
        "filelock>=3.20.1,<5",
        "tqdm>=4.66.3,<5",
        "matplotlib>=3.9,<4",
        "jinja2>=3.1.6,<4",
        "tensorboard>=2.20,<2.22",
        "google-crc32c>=1.5,<2",
        # DICOM, with decoders for compressed series, all BSD or MIT.
        "pydicom>=3.0.1,<4",
        "python-gdcm>=3.0.24,<4",
        "pyjpegls>=1.5,<2",
        "pylibjpeg>=2.0,<3",
        "pylibjpeg-openjpeg>=2.4,<3",
        "pylibjpeg-rle>=2.1,<3",
    ],
    extras_require={
        "dev": [
            *ONNX,
            *OPENVINO,
            "pytest>=8.3,<10",
            "pytest-xdist>=3.8,<4",
            "hypothesis>=6.115,<7",
            "ruff>=0.8,<1",
            "mypy>=1.13,<3",
            "pip-audit>=2.10,<3",
            "setuptools>=78.1.1",  # that of a new environment may be older, and is on the list of known_bad.txt
            *COMBAT,
            *CLUSTER,
            *MASKS,
            *NODE,
            "trustme>=1.2,<2",
        ],
        # Peers of `make bench`; BSD and Apache-2.0.
        "bench": ["torch>=2.7,<3", "monai>=1.5,<2", *ONNX, *OPENVINO],
        # Engines that run exported models without TensorFlow, and `stan-ct export`; MIT and Apache-2.0.
        "onnx": ONNX,
        "openvino": OPENVINO,
        # Regions of interest as DICOM SEG and NIfTI; both MIT.
        "masks": MASKS,
        # Series as NIfTI, in and out; MIT.
        "nifti": NIFTI,
        # The PACS node; MIT and Apache-2.0.
        "node": NODE,
        # Workers of a Dask cluster, as jobs of SLURM too; all BSD.
        "cluster": CLUSTER,
        # Texture of regions beyond co-occurrence; EUPL-1.2 (copyleft), so no dependency, and not in dev.
        "mirp": ["mirp>=2.7,<3", *MASKS],
        # A wheel that brings CUDA along.
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Typing :: Typed",
        "Intended Audience :: Science/Research",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)

"""Reading HDF5 files that come from elsewhere."""

import h5py


def own_array(h5: h5py.File, name: str) -> h5py.Dataset | None:
    """The array of a name, where the file itself holds it: a link, or data that is said to lie elsewhere, may be any file's."""
    if not isinstance(h5.get(name, getlink=True), h5py.HardLink):
        return None
    found = h5[name]
    return found if isinstance(found, h5py.Dataset) and not found.external and not found.is_virtual else None

"""Loading by name: the network is the one that its file gives."""

import pytest

from npmobilenet.errors import WeightsError
from npmobilenet.hub.cache import converted_path, locate
from npmobilenet.hub.load import load
from npmobilenet.hub.published_models import find_model
from tests.helpers.download_server import Server
from tests.helpers.real_files import real_file


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_224", "mobilenet_v2_1.0_224"])
def test_a_name_loads_the_same_network_as_its_file(name: str, server: Server) -> None:
    file, panda = real_file("weights", f"{name}_imagenet.h5"), real_file("images", "panda.jpg")
    server.files[find_model(name).url_path] = file.read_bytes()

    by_name = load(name, backend="reference").classify(panda)

    assert by_name[0][0][:2] == ("n02510455", "giant_panda")
    assert by_name == load(file, backend="reference").classify(panda)


def test_weights_of_another_alpha_are_refused(server: Server) -> None:
    file = real_file("weights", "mobilenet_v1_0.25_224_imagenet.h5")
    server.files[find_model("mobilenet_v1_0.5_224").url_path] = file.read_bytes()

    with pytest.raises(WeightsError, match=r"0\.25"):
        locate("mobilenet_v1_0.5_224")
    assert not converted_path(find_model("mobilenet_v1_0.5_224")).exists()

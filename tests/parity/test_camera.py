from easyanimate_core.paths.camera import (
    CameraPath,
    Intrinsics,
    camera_path,
    camera_path_from_rows,
    from_cameractrl_text,
    join_paths,
    plucker_embedding,
    to_cameractrl_text,
)

TOLERANCE = 1e-5


def test_moves_and_embeddings(parity, assert_close):
    fixture = parity.read("camera.safetensors")
    outputs = fixture.group("outputs")
    intrinsics = Intrinsics(**fixture.meta["intrinsics"])
    original_size = tuple(fixture.meta["original_size"])
    for index, motion in enumerate(fixture.meta["motions"]):
        path = camera_path(
            motion["moves"],
            frames=motion["frames"],
            speed=motion["speed"],
            intrinsics=intrinsics,
        )
        what = f"{index} {motion['moves']}"
        assert_close(path.world_to_camera, outputs[f"{index}.rt"], TOLERANCE, f"poses {what}")
        plucker = plucker_embedding(
            path, motion["height"], motion["width"], original_size=original_size
        )
        assert_close(plucker, outputs[f"{index}.plucker"], TOLERANCE, f"plucker {what}")


def test_joining(parity, assert_close):
    outputs = parity.read("camera.safetensors").group("outputs")
    first, second = (
        CameraPath(poses, (Intrinsics(),) * len(poses))
        for poses in (outputs["join.first"], outputs["join.second"])
    )
    before = first.world_to_camera.clone(), second.world_to_camera.clone()
    joined = join_paths(first, second)
    assert_close(joined.world_to_camera, outputs["join.joined"], TOLERANCE, "joined poses")
    assert (first.world_to_camera == before[0]).all()
    assert (second.world_to_camera == before[1]).all()


def test_rows_of_a_real_run_survive_the_file_format(parity, assert_close):
    rows = parity.read("pipeline/v5.1_camera_ref.safetensors").group("inputs")["camera_poses"]
    path = camera_path_from_rows(rows)
    again = from_cameractrl_text(to_cameractrl_text(path))
    assert_close(again.world_to_camera, rows[:, 7:].reshape(-1, 3, 4), 1e-9, "poses")
    assert [(k.fx, k.fy, k.cx, k.cy) for k in again.intrinsics] == [
        tuple(row) for row in rows[:, 1:5].tolist()
    ]

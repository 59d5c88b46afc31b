"""Labels for pictures: find objects, ask the teachers, keep what they agree on, report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy import __version__
from cunet_deploy._files import atomic_path, check_target, file_sha256, part_path
from cunet_deploy.detection.open import named_files, open_detector
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.geometry import box_iou, landmark_boxes
from cunet_deploy.labelling.agreement import Consensus, Rule, agree
from cunet_deploy.labelling.base import Teacher
from cunet_deploy.labelling.coco_set import CocoSet, read_info
from cunet_deploy.labelling.journal import Journal, Labelled, check_same
from cunet_deploy.labelling.pictures import Found, Pictures
from cunet_deploy.labelling.sheet import DoubtSheet
from cunet_deploy.labelling.teachers import OwnTeacher, open_teacher
from cunet_deploy.labelling.views import VIEWS, View, look
from cunet_deploy.licences import wanted_licence
from cunet_deploy.manifest import Manifest
from cunet_deploy.skeletons import SKELETONS, Skeleton, map_landmarks
from cunet_deploy.tracking.step import ImageStep
from cunet_deploy.zoo import check_licence, default_detector

__all__ = ["Summary", "TeacherEnsemble", "is_done", "label_pictures"]

_SAME_IOU = 0.6
"""Boxes that overlap by this much after localization are of one object."""
_WIDER = (View(scale=2.5), View(scale=1.6), View(scale=1.2))
"""Views by which a teacher goes from the box of a detector, which may end at the hips, to one around all joints."""


class TeacherEnsemble:
    """Teachers and what finds the objects for them. A context manager.

    Attributes:
        teachers: in the order they were named.
        skeleton: the landmarks that are labelled.
    """

    def __init__(
        self,
        specs: Sequence[str],
        skeleton: Skeleton | None = None,
        *,
        detector: str | None = None,
        threads: int | None = None,
        licence: str | None = None,
    ) -> None:
        """Open teachers and detector.

        Args:
            specs: of the teachers; see `open_teacher`.
            skeleton: the landmarks to label; ``None``: those of the first teacher.
            detector: as ``--detector`` has it; ``None``: what the first teacher of ours names, or the usual one.
            threads: how many CPU threads each network may use.
            licence: as `cunet_deploy.Localizer` takes it; networks of others state none, and are taken.

        Raises:
            InputError: a teacher or the detector does not exist, a licence is refused, or a teacher has no landmark of
                the skeleton.
            CunetError: as `open_teacher` and `open_detector`.
        """
        self.teachers: list[Teacher] = []
        wanted = wanted_licence(licence)
        try:
            for spec in specs:
                self.teachers.append(open_teacher(spec, threads))
            self.skeleton = skeleton or self.teachers[0].skeleton
            for teacher in self.teachers:
                map_landmarks(np.zeros((len(teacher.skeleton), 2)), teacher.skeleton, self.skeleton)  # or refused
            ours = next((own for own in self.teachers if isinstance(own, OwnTeacher)), None)
            session = None if ours is None else ours.session
            for own in self.teachers:
                if isinstance(own, OwnTeacher):
                    check_licence(own.session.manifest, wanted)
            usual = None if session is not None else default_detector(self.skeleton.name, wanted)
            self._detector = open_detector(detector or usual, session, wanted)
            self._named = named_files(detector)
            self._step = None if session is None else ImageStep(session, self._detector)
        except BaseException:
            self._close_teachers()
            raise

    def __enter__(self) -> TeacherEnsemble:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_teachers()
        self._detector.close()

    def _close_teachers(self) -> None:
        for teacher in self.teachers:
            teacher.close()

    def objects(self, found: Found, rule: Rule) -> list[Consensus]:
        """Label each object in a picture with what the teachers agree on."""
        image = found.picture.image
        height, width = image.shape[:2]
        objects: list[Consensus] = []
        for box in self._boxes(found):
            points, scores, beside = [], [], []
            for teacher in self.teachers:
                own, heights = look(teacher, image, box)
                beside.append(np.median(own, axis=0)[_of_ours(teacher.skeleton)])
                points.append(map_landmarks(own, teacher.skeleton, self.skeleton))
                scores.append(map_landmarks(_twice(heights), teacher.skeleton, self.skeleton)[..., 0])
            consensus = agree(points, scores, self.skeleton, rule, width, height, np.concatenate(beside))
            if not _has_area(consensus.box):
                continue
            if not objects or box_iou(consensus.box[None], np.stack([own.box for own in objects])).max() < _SAME_IOU:
                objects.append(consensus)
        return objects

    def _boxes(self, found: Found) -> NDArray[np.floating]:
        """(N, 4) tight boxes, around the landmarks of the first teacher of ours or, without one, of the first."""
        image, index, name = found.picture.image, found.picture.index, found.picture.name
        if self._step is not None:
            landmarks = self._step.update(image, index, found.picture.time_ms, name)
            return landmarks.boxes if self._detector.exact or not len(landmarks) else landmark_boxes(landmarks.points)
        boxes = np.asarray(self._detector.detect(image, index, name)[0])
        return boxes if self._detector.exact else np.array([self._tight(image, box) for box in boxes]).reshape(-1, 4)

    def _tight(self, image: NDArray[np.uint8], box: NDArray[np.floating]) -> NDArray[np.floating]:
        """The box of the joints that the first teacher sees in that of a detector, which may not reach to all."""
        teacher = self.teachers[0]
        for view in _WIDER:
            around = landmark_boxes(look(teacher, image, box, [view])[0][0][_of_ours(teacher.skeleton)])
            if not _has_area(around):
                break
            box = around
        return box

    def found_by(self) -> dict[str, str]:
        """Name of the detector and checksum of its weights or, where it is no network of ours, of the file it reads."""
        manifest: Manifest | None = getattr(self._detector, "manifest", None)
        if manifest is None:
            read = "".join(file_sha256(path) for path in self._named)
            return {"name": type(self._detector).__name__, "weights": read}
        return {"name": manifest.name, "weights": manifest.checkpoint}

    def provenance(self) -> list[dict[str, Any]]:
        """The teachers by name, checksum of their file and what runs them."""
        return [
            {"name": own.name, "file": own.file.name, "sha256": file_sha256(own.file), "library": own.library}
            for own in self.teachers
        ]


def _of_ours(skeleton: Skeleton) -> NDArray[np.bool_]:
    """(K,) landmarks that one of our skeletons has, whose tight box is what our networks are trained with."""
    ours = {name for own in SKELETONS.values() for name in own.landmarks}
    known = np.array([name in ours for name in skeleton.landmarks], np.bool_)
    return known if known.any() else ~known


def _twice(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """(V, K) numbers as (V, K, 2) points, which can be mapped from skeleton to skeleton."""
    return np.repeat(values[..., None], 2, axis=-1)


def _has_area(box: NDArray[np.floating]) -> bool:
    return bool(np.isfinite(box).all() and (box[2:] > box[:2]).all())


@dataclass(eq=False)
class Summary:
    """Agreement over all pictures.

    Attributes:
        skeleton: of the joints.
        pictures: how many were looked at.
        with_objects: in how many of them something was found.
        objects: how many were found.
        labelled: how many of these got labels.
        skipped: what could not be read, a line each.
    """

    skeleton: Skeleton
    pictures: int = 0
    with_objects: int = 0
    objects: int = 0
    labelled: int = 0
    skipped: list[str] = field(default_factory=list)
    _apart: list[NDArray[np.float64]] = field(default_factory=list)
    _scores: list[NDArray[np.float64]] = field(default_factory=list)
    _kept: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(self, objects: Sequence[Consensus], rule: Rule) -> None:
        """Count a picture."""
        self.pictures += 1
        self.with_objects += bool(objects)
        self.objects += len(objects)
        for own in objects:
            self.labelled += own.agreed_share >= rule.min_joints
            self._apart.append(own.apart)
            self._scores.append(own.scores)
            self._kept.append(own.kept)

    def joints(self) -> list[dict[str, Any]]:
        """Summarize each joint that a teacher knows: share agreed on, distance of opinions, and score."""
        apart, scores, kept = np.stack(self._apart), np.stack(self._scores), np.stack(self._kept)
        rows = []
        for index in np.flatnonzero(np.isfinite(apart).any(axis=0)).tolist():
            known = np.isfinite(apart[:, index])
            rows.append(
                {
                    "joint": self.skeleton.landmarks[index],
                    "agreed_percent": round(100 * float(kept[known, index].mean()), 1),
                    "apart_median": round(float(np.median(apart[known, index])), 3),
                    "apart_90": round(float(np.percentile(apart[known, index], 90)), 3),
                    "score_mean": round(float(scores[known, index].mean()), 3),
                }
            )
        return rows


def is_done(
    pictures: Pictures,
    ensemble: TeacherEnsemble,
    rule: Rule,
    out: Path,
    *,
    sheet: int = 24,
    overwrite: bool = False,
) -> bool:
    """Return whether a set is complete, and of all sources as they are now. Arguments are those of `label_pictures`.

    Raises:
        InputError: it was made with other options, or is no set of labels, and is not to be overwritten.
    """
    if not out.is_file() or Journal.of(out).exists():
        return False
    try:
        before = read_info(out)
        check_same(out, before, _info(pictures, ensemble, rule, sheet))
    except InputError:
        if overwrite:
            return False
        raise
    return bool(before.get("sources") == pictures.digest)


def label_pictures(
    pictures: Pictures,
    ensemble: TeacherEnsemble,
    rule: Rule,
    out: Path,
    *,
    sheet: int = 24,
    overwrite: bool = False,
    resume: bool = False,
    advance: Callable[[], None] = lambda: None,
    stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Label pictures and write the set: ``out``, a folder of frames and a contact sheet named after it.

    Each picture is noted in a journal beside the set as soon as it is labelled: however a run ends, another one can go
    on from there. What has changed since is labelled again, and what is gone left out.

    Args:
        pictures: what to label.
        ensemble: who labels.
        rule: when a joint is agreed on.
        out: the COCO file.
        sheet: how many of the least certain objects the contact sheet ``NAME.doubts.jpg`` shows; 0: there is none.
        overwrite: replace what is there; with ``resume`` only what was made with other options.
        resume: go on with a run that did not end; a complete set with the same options is made anew, see `is_done`.
        advance: called after each picture.
        stop: asked for each picture and each frame between; once it says so, the set is written as far as it goes.

    Returns:
        What came of it.

    Raises:
        InputError: nothing was found in any picture, results are in the way, or the earlier run had other options.
        CunetError: a picture or network fails. What was labelled before can be resumed.
        KeyboardInterrupt: after ``stop``; the set is there, and can be resumed.
    """
    info = _info(pictures, ensemble, rule, sheet)
    journal = Journal(out, info, resume=resume, overwrite=overwrite)
    if resume and not (overwrite or journal.goes_on) and out.is_file():
        check_same(out, read_info(out), info)
        overwrite = True
    replace, doubts_file = overwrite or journal.goes_on, part_path(out.with_suffix(""), ".doubts.jpg")
    if sheet:
        check_target(doubts_file, overwrite=replace)
    work = _Work(journal, Summary(ensemble.skeleton), DoubtSheet(ensemble.skeleton, sheet), rule, advance)
    labels = CocoSet(out, ensemble.skeleton, overwrite=replace, goes_on=journal.goes_on)
    with atomic_path(out, overwrite=replace) as temporary, journal, labels:
        ended = work.label(pictures, ensemble, labels, stop)
        if ended and not work.summary.objects:
            journal.remove()
            raise _nothing(work.summary.pictures, pictures)
        if not work.summary.objects:
            raise KeyboardInterrupt
        work.doubts.write(doubts_file, labels.place, overwrite=replace)
        labels.finish(temporary, {**info, "sources": pictures.digest})
    if not ended:
        raise KeyboardInterrupt
    journal.remove()
    return work.summary


def _nothing(looked_at: int, pictures: Pictures) -> InputError:
    """Reason why there is no label at all."""
    if looked_at:
        return InputError(f"nothing was found in {looked_at} pictures; give --detector, or other pictures")
    if pictures.skipped and not pictures.passed_over:
        return InputError(f"no picture can be read; {pictures.skipped[0]}")
    return InputError("no frame of the clips is in the part that is wanted; give another one", option="seconds")


@dataclass(frozen=True, eq=False)
class _Work:
    """Labelling of one picture after the other."""

    journal: Journal
    summary: Summary
    doubts: DoubtSheet
    rule: Rule
    advance: Callable[[], None]

    def label(self, pictures: Pictures, ensemble: TeacherEnsemble, labels: CocoSet, stop: Callable[[], bool]) -> bool:
        """Label what an earlier run has not, or what has changed since; return whether it came to the end."""
        entries = [item for item in self.journal.entries if pictures.has(item.origin) and labels.has(item)]
        for item in entries:
            self._add(item, labels)
        known = {item.origin for item in entries}
        try:
            for found in pictures:
                if stop():
                    return False
                if found is None or found.origin in known:
                    continue
                known.add(found.origin)
                objects = tuple(ensemble.objects(found, self.rule))
                height, width = found.picture.image.shape[:2]
                item = Labelled(found.origin, labels.name(found) if objects else "", (width, height), objects)
                self.journal.add(item)
                self._add(item, labels)
            self.summary.skipped = list(pictures.skipped)
        except CunetError as error:
            if isinstance(error, InputError) or not self.summary.pictures:
                raise
            kept = f"{self.summary.pictures} pictures are labelled: resume afterwards"
            raise type(error)(f"{error}; {kept}", option="resume") from error
        return True

    def _add(self, item: Labelled, labels: CocoSet) -> None:
        labels.add(item, self.rule.min_joints)
        self.summary.add(item.objects, self.rule)
        for own in item.objects:
            self.doubts.add(item.file, own)
        self.advance()


def _info(pictures: Pictures, ensemble: TeacherEnsemble, rule: Rule, sheet: int) -> dict[str, Any]:
    """Facts on which labels depend, as JSON has them."""
    return {
        "description": "labels on which networks agree; nobody has looked at them",
        "producer": f"cunet-deploy {__version__}",
        "teachers": ensemble.provenance(),
        "detector": ensemble.found_by(),
        "landmarks": list(ensemble.skeleton.landmarks),
        "views": len(VIEWS),
        "within": rule.within,
        "size": rule.size,
        "min_score": rule.min_score,
        "min_joints": rule.min_joints,
        "sheet": sheet,
        **pictures.options,
    }

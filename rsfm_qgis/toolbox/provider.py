"""The provider "rsfm" of the Processing toolbox."""

from __future__ import annotations

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from rsfm_qgis import paths
from rsfm_qgis.schema import jobs
from rsfm_qgis.toolbox.algorithm import JobAlgorithm


class Provider(QgsProcessingProvider):
    """Holds one algorithm per job."""

    def id(self) -> str:
        return "rsfm"

    def name(self) -> str:
        return "RSFM"

    def icon(self) -> QIcon:
        return QIcon(paths.icon("rsfm"))

    def loadAlgorithms(self) -> None:
        for job in jobs().values():
            self.addAlgorithm(JobAlgorithm(job))

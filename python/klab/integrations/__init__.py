# SPDX-License-Identifier: Apache-2.0
"""Integrations of klab's operators into models of other packages."""

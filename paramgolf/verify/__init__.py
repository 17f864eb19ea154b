"""The judge: does a run, a submission folder or an outside predictor keep the rules of the contest?"""

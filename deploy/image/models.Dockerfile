# An image of models, whose content components/models-image copies into a pod. The context is the folder of the models:
#
#     docker build -f deploy/image/models.Dockerfile -t lstm-models:release-1 models
FROM busybox:1.37.0
# Of the user that copies it, so that nobody needs to let others read the files.
COPY --chown=65532:65532 . /models
USER 65532:65532
